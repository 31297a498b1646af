// The history: put together by clicking, put in order with the buttons or with Alt and the arrow keys.
import { ItemLink } from "./parts.js";
import { html, useLayoutEffect, useRef } from "./preact.js";
import { useShop } from "./state.js";

export function History() {
  const { state, dispatch } = useShop();
  const { history } = state;
  const list = useRef(null);
  const focus = useRef(null); // what to focus when the list has changed: {place, button}

  useLayoutEffect(() => {
    if (!focus.current) return;
    const { place, button } = focus.current;
    focus.current = null;
    const row = list.current?.children[Math.min(place, history.length - 1)];
    (row?.querySelector(`[data-does=${button}]`) ?? document.getElementById("search"))?.focus();
  }, [history]);

  const move = (place, to, button) => {
    if (to < 0 || to >= history.length) return;
    focus.current = { place: to, button };
    dispatch({ type: "move", place, to });
  };
  const drop = (place) => {
    focus.current = { place, button: "drop" };
    dispatch({ type: "drop", place });
  };
  const onKey = (event, place) => {
    const does = event.target.dataset.does ?? "drop";
    if (event.altKey && event.key === "ArrowUp") move(place, place - 1, does);
    else if (event.altKey && event.key === "ArrowDown") move(place, place + 1, does);
    else if (event.key === "Delete") drop(place);
    else return;
    event.preventDefault();
  };

  return html`<section class="history" aria-labelledby="history-title">
    <div class="heading">
      <h2 id="history-title">History</h2>
      ${history.length > 0 &&
      html`<button type="button" class="link" onClick=${() => dispatch({ type: "replace", items: [] })}>Clear</button>`}
    </div>
    ${history.length === 0
      ? html`<p class="quiet">Nothing chosen yet. What you add stands here, oldest first.</p>`
      : html`<ol ref=${list} class="rows">
          ${history.map((item, place) => {
            const does = { move, drop, place, item, last: place === history.length - 1 };
            return html`<li key=${item.key} onKeyDown=${(event) => onKey(event, place)}>
              <span class="place" aria-hidden="true">${place + 1}</span>
              <${ItemLink} id=${item.id} title=${item.title} />
              <${Buttons} ...${does} />
            </li>`;
          })}
        </ol>
        <p class="quiet small-text wide-only">Alt and arrow up or down move an item, Delete takes it out.</p>`}
  </section>`;
}

function Buttons({ move, drop, place, item, last }) {
  const button = (does, sign, label, act, off) => html`<button
    type="button"
    class="icon"
    data-does=${does}
    aria-label=${label}
    title=${label}
    aria-disabled=${off}
    onClick=${act}
  >${sign}</button>`;
  return html`<span class="buttons">
    ${button("up", "↑", `Move ${item.title} up`, () => move(place, place - 1, "up"), place === 0)}
    ${button("down", "↓", `Move ${item.title} down`, () => move(place, place + 1, "down"), last)}
    ${button("drop", "×", `Take ${item.title} out of the history`, () => drop(place), false)}
  </span>`;
}

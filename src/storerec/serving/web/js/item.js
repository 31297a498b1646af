// The panel of one item: its text, its codes, its neighbours, and taking it out of the lists.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { AddButton, Codes, ItemLink, nameOf, percent, Problem, Waiting } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { useShop } from "./state.js";
import { Why } from "./why.js";

const NEIGHBOURS = 8;

export function ItemPanel() {
  const { state, dispatch, about } = useShop();
  const id = state.shown;
  const head = useRef(null);
  const opener = useRef(null);
  const gone = state.removed.find((item) => item.id === id);
  const { data, error } = useAnswer(
    async (signal) => (gone ? null : api.item(id, NEIGHBOURS, signal)),
    [id, state.changes],
  );

  useLayoutEffect(() => {
    const before = document.activeElement;
    if (!before?.closest(".panel")) opener.current = before;
    head.current.focus({ preventScroll: true });
  }, [id, gone === undefined]); // the button that was pressed is there no more when an item goes or comes back
  const close = () => {
    dispatch({ type: "show", id: null });
    if (opener.current?.isConnected) opener.current.focus();
  };
  const here = data?.item_id === id ? data : null;
  const title = gone ? gone.title : here ? nameOf(here.text[about.title_attribute], id) : "…";
  return html`<aside
    class="panel"
    aria-labelledby="item-title"
    onKeyDown=${(event) => event.key === "Escape" && close()}
  >
    <div class="heading">
      <h2 id="item-title" ref=${head} tabindex="-1">${title}</h2>
      <button type="button" class="icon" aria-label="Close the item" title="Close (Escape)" onClick=${close}>×</button>
    </div>
    <p class="quiet small-text">item <code>${id}</code></p>
    ${gone ? html`<${Removed} item=${gone} />` : html`<${Problem} error=${error} />`}
    <${Waiting} when=${!here && !gone && !error} />
    ${here && !gone && html`<${Item} item=${here} title=${title} key=${id} />`}
  </aside>`;
}

function Item({ item, title }) {
  const { state, about } = useShop();
  const { item_id: id, text, codes, neighbours } = item;
  const history = state.history.map((one) => one.id);
  return html`<p class="buttons"><${AddButton} id=${id} title=${title} /><${Remove} id=${id} title=${title} text=${text} /></p>
    <dl class="facts">
      ${Object.entries(text).map(([name, value]) => html`<dt key=${`${name}-name`}>${name}</dt><dd key=${name}>${value || "–"}</dd>`)}
      <dt>semantic ID</dt>
      <dd><${Codes} codes=${codes} /></dd>
      ${about.has_scorer && history.length > 0 && html`<${Scored} id=${id} history=${history} />`}
    </dl>
    <${Reason} id=${id} history=${history} />
    <h3>Nearest by codes</h3>
    <ul class="rows">
      ${neighbours.map(
        (one) => html`<li key=${one.item_id}>
          <${ItemLink} id=${one.item_id} title=${one.title} />
          <span class="quiet small-text" title="Hamming distance: codes that differ">
            ${one.distance === 0 ? "same codes" : `${one.distance} of ${codes.length} differ`}
          </span>
          <${AddButton} id=${one.item_id} title=${one.title} />
        </li>`,
      )}
    </ul>`;
}

function Scored({ id, history }) {
  const { about } = useShop();
  const { data } = useAnswer((signal) => api.score(history, [id], signal), [id, JSON.stringify(history)], 100);
  if (!data) return null;
  return html`<dt>${about.scored_by}</dt>
    <dd>${percent(data.items[0].score)} <span class="quiet">by the scorer, after the history</span></dd>`;
}

/** How likely the item is after the history, for items of no list too. */
function Reason({ id, history }) {
  const [open, setOpen] = useState(false);
  return html`<p>
      <button type="button" class="small" aria-expanded=${open} aria-controls="item-why" onClick=${() => setOpen(!open)}>
        How likely is it ${history.length ? "after the history" : "as a first item"}, and why?
      </button>
    </p>
    <div id="item-why" hidden=${!open}>${open && html`<${Why} history=${history} id=${id} />`}</div>`;
}

/** Asks back before it removes: others see this catalogue, too. */
function Remove({ id, title, text }) {
  const { dispatch } = useShop();
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState(null);
  const no = useRef(null);
  useEffect(() => no.current?.focus(), [asked]);
  const remove = async () => {
    try {
      await api.remove(id);
      dispatch({ type: "removed", item: { id, title, text } });
    } catch (fault) {
      setError(fault);
    }
  };
  if (!asked) {
    return html`<button type="button" class="small" onClick=${() => setAsked(true)}>Take out of all lists</button>`;
  }
  return html`<span class="sure" role="group" aria-label=${`Take ${title} out of all lists?`}>
    <button type="button" class="small danger" onClick=${remove}>Yes, for everybody</button>
    <button ref=${no} type="button" class="small" onClick=${() => setAsked(false)}>No</button>
    <${Problem} error=${error} />
  </span>`;
}

/** An item that was taken out here, and the way back. */
export function Removed({ item }) {
  const { dispatch } = useShop();
  const [error, setError] = useState(null);
  const restore = async () => {
    try {
      const [{ status, codes }] = (await api.add(item.id, item.text)).items;
      dispatch({ type: "added", item: { ...item, codes, status } });
    } catch (fault) {
      setError(fault);
    }
  };
  return html`<p>
      It is in no list any more; histories that hold it are read as before.
      ${" "}<button type="button" class="small" aria-label=${`Put ${item.title} back`} onClick=${restore}>Put it back</button>
    </p>
    <${Problem} error=${error} />`;
}

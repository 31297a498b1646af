// Search by title. Enter takes the first item found; the arrow keys walk through the others.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { AddButton, count, ItemLink, nameOf, Problem } from "./parts.js";
import { html, useEffect, useRef, useState } from "./preact.js";
import { useShop } from "./state.js";

const LIMIT = 20;

export function Search() {
  const { state, dispatch, about } = useShop();
  const [text, setText] = useState("");
  const field = useRef(null);
  const list = useRef(null);
  const wanted = text.trim();
  const { data, error } = useAnswer(
    async (signal) => wanted && { of: wanted, items: (await api.search(wanted, LIMIT, signal)).items },
    [wanted, state.changes],
    wanted ? 120 : 0,
  );
  const shown = (wanted && data?.items) || []; // those of the text before it was changed stay until the next are there
  const found = data?.of === wanted ? shown : null;
  const hurried = useRef(false); // Enter came before the answer
  const addFirst = () => {
    hurried.current = found === null;
    if (!found?.length) return;
    const [{ item_id: id, title }] = found;
    dispatch({ type: "append", item: { id, title: nameOf(title, id) } });
    field.current.select();
  };
  useEffect(() => {
    if (hurried.current && found) addFirst();
  }, [data]);

  const buttons = () => [...(list.current?.querySelectorAll(".small") ?? [])];
  const onFieldKey = (event) => {
    if (event.key === "ArrowDown" && shown.length) buttons()[0].focus();
    else if (event.key === "Escape" && text) setText("");
    else if (event.key === "Enter" && wanted) addFirst();
    else return;
    event.preventDefault();
  };
  const onListKey = (event) => {
    const all = buttons();
    const row = event.target.closest("li");
    const place = all.findIndex((button) => row?.contains(button));
    if (event.key === "ArrowDown") all[Math.min(place + 1, all.length - 1)].focus();
    else if (event.key === "ArrowUp" && place > 0) all[place - 1].focus();
    else if (event.key === "ArrowUp" || event.key === "Escape") field.current.focus();
    else return;
    event.preventDefault();
  };

  return html`<section class="search" aria-label="Search">
    <label for="search">Search for items</label>
    <input
      id="search"
      ref=${field}
      type="search"
      value=${text}
      placeholder="Part of a title"
      maxlength="200"
      autocomplete="off"
      spellcheck="false"
      aria-describedby="search-help"
      onInput=${(event) => {
        hurried.current = false;
        setText(event.target.value);
      }}
      onKeyDown=${onFieldKey}
    />
    <p id="search-help" class="quiet small-text" role="status">${said(found, wanted)}</p>
    <${Problem} error=${wanted && error} />
    ${shown.length > 0 &&
    html`<ul ref=${list} class="rows found" aria-label="Items found" onKeyDown=${onListKey}>
      ${shown.map(
        ({ item_id: id, title }) => html`<li key=${id}>
          <${ItemLink} id=${id} title=${title} /><${AddButton} id=${id} title=${title} />
        </li>`,
      )}
    </ul>`}
    ${!wanted && !state.history.length && about.examples.length > 0 && html`<${Examples} items=${about.examples} />`}
  </section>`;
}

function said(found, wanted) {
  if (!wanted) return "Enter adds the first item found, arrow down walks through the others.";
  if (!found) return "Searching…";
  if (!found.length) return "Nothing found: no title holds this.";
  return found.length < LIMIT ? `${count(found.length, "item")} found` : `The first ${LIMIT} items found`;
}

function Examples({ items }) {
  return html`<div>
    <p class="quiet small-text">Or begin with one of these:</p>
    <ul class="rows">
      ${items.map(
        ({ item_id: id, title }) => html`<li key=${id}>
          <${ItemLink} id=${id} title=${title} /><${AddButton} id=${id} title=${title} />
        </li>`,
      )}
    </ul>
  </div>`;
}

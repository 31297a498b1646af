// The list: what comes next after the history, with the score of each item and why it is there.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { AddButton, Bar, Codes, count, ItemLink, nameOf, percent, Problem, Waiting } from "./parts.js";
import { html, useState } from "./preact.js";
import { useShop } from "./state.js";
import { Why } from "./why.js";

export function Recommendations() {
  const { state } = useShop();
  const { history, k, excludeHistory, attribute, value, changes, added } = state;
  const ids = history.map((item) => item.id);
  const where = attribute && value ? { [attribute]: [value] } : {};
  const { data, error, busy } = useAnswer(
    (signal) => api.recommend({ history: ids, k, exclude_history: excludeHistory, where }, signal),
    [JSON.stringify([ids, k, excludeHistory, where]), changes],
    100,
  );
  const news = new Set(added.map((item) => item.id));
  const best = data?.items.length ? Math.exp(data.items[0].score) : 1;
  return html`<section aria-labelledby="lists-title">
    <h2 id="lists-title">Recommendations</h2>
    <${Settings} />
    <p class="quiet" role="status">${data ? said(data, history) : ""}</p>
    <${Problem} error=${error} />
    <${Waiting} when=${!data && !error} text="Asking the model…" />
    <ol class="recommended" aria-busy=${busy} aria-label="Recommended items">
      ${data?.items.map(
        (item, place) => html`<${Row}
          key=${item.item_id}
          item=${item}
          place=${place}
          best=${best}
          history=${ids}
          isNew=${news.has(item.item_id)}
        />`,
      )}
    </ol>
  </section>`;
}

function said({ items, unknown, fallback }, history) {
  const parts = [];
  if (!history.length) parts.push("Without a history these are the most probable first items.");
  else if (fallback) parts.push(`${fallback[0].toUpperCase()}${fallback.slice(1)}.`);
  else parts.push(`${count(items.length, "item")} after ${count(history.length - unknown.length, "item")} of history.`);
  if (unknown.length) parts.push(`${count(unknown.length, "item")} of the history is not in the catalogue.`);
  if (!items.length) parts.push("No item matches the filter.");
  return parts.join(" ");
}

function Row({ item, place, best, history, isNew }) {
  const [open, setOpen] = useState(false);
  const { item_id: id, title, score, codes } = item;
  const probability = Math.exp(score);
  const panel = `why-${place}`;
  return html`<li class=${open ? "open" : ""}>
    <div class="item">
      <span class="place" aria-hidden="true">${place + 1}</span>
      <span class="what">
        <${ItemLink} id=${id} title=${title} />
        ${isNew && html`<span class="tag">new</span>`}
        <${Codes} codes=${codes} />
      </span>
      <span class="score" title=${`score: ${score.toFixed(3)}, a logarithm of the probability to come next`}>
        <${Bar} share=${best ? probability / best : 0} />
        <span class="number">${percent(probability)}</span>
      </span>
      <span class="buttons">
        <button
          type="button"
          class="small"
          aria-expanded=${open}
          aria-controls=${panel}
          aria-label=${`Why ${nameOf(title, id)}?`}
          onClick=${() => setOpen(!open)}
        >Why?</button>
        <${AddButton} id=${id} title=${title} />
      </span>
    </div>
    <div id=${panel} hidden=${!open}>${open && html`<${Why} history=${history} id=${id} />`}</div>
  </li>`;
}

function Settings() {
  const { state, dispatch, about } = useShop();
  const set = (values) => dispatch({ type: "set", values });
  const lengths = [5, 10, 20, 50, 100].filter((k) => k <= about.max_k);
  const values = about.attributes.find((one) => one.name === state.attribute)?.values ?? [];
  return html`<div class="settings" role="group" aria-label="Settings of the list">
    <label>
      <span>Length</span>
      <select value=${state.k} onChange=${(event) => set({ k: Number(event.target.value) })}>
        ${lengths.map((k) => html`<option key=${k} value=${k} selected=${k === state.k}>${k}</option>`)}
      </select>
    </label>
    <label>
      <span>Only where</span>
      <select value=${state.attribute} onChange=${(event) => set({ attribute: event.target.value, value: "" })}>
        <option value="">all items</option>
        ${about.attributes.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
    </label>
    ${state.attribute &&
    html`<label>
      <span>is</span>
      <input
        list="values"
        value=${state.value}
        placeholder="a value"
        autocomplete="off"
        onChange=${(event) => set({ value: event.target.value.trim() })}
      />
      <datalist id="values">${values.map((one) => html`<option key=${one} value=${one}></option>`)}</datalist>
    </label>`}
    <label class="check">
      <input
        type="checkbox"
        checked=${state.excludeHistory}
        onChange=${(event) => set({ excludeHistory: event.target.checked })}
      />
      <span>leave out the history</span>
    </label>
  </div>`;
}

// A form for a new item, and where it stands at once: its codes, its neighbours, and a list that it is in.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { Codes, ItemLink, nameOf, Problem, Waiting } from "./parts.js";
import { html, useRef, useState } from "./preact.js";
import { Removed } from "./item.js";
import { useShop } from "./state.js";

const LONG = 60; // characters from which a text gets more than one line
const NEAR = 3;
const LIST = 50;
const SHOWN = 5;

export function AddItem() {
  const { state } = useShop();
  return html`<section aria-labelledby="add-title">
    <h2 id="add-title">Add an item</h2>
    <p class="quiet">
      The model reads its text and gives it codes; nothing is trained again. It is in lists as soon as this is answered,
      for everybody, and stays when the service is started anew.
    </p>
    <${Form} />
    ${state.added.length > 0 &&
    html`<h3>Added here</h3>
      <ul class="cards">
        ${state.added.map((item) => html`<li key=${`${item.id} ${item.codes}`}><${Added} item=${item} /></li>`)}
      </ul>`}
    ${state.removed.length > 0 &&
    html`<h3>Taken out here</h3>
      <ul class="cards">
        ${state.removed.map((item) => html`<li key=${item.id}><strong>${item.title}</strong><${Removed} item=${item} /></li>`)}
      </ul>`}
  </section>`;
}

function Form() {
  const { dispatch, about } = useShop();
  const form = useRef(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const fields = new FormData(form.current);
    const id = fields.get("id").trim();
    const given = about.attributes.map(({ name }, place) => [name, fields.get(`text-${place}`).trim()]);
    const text = Object.fromEntries(given.filter(([, value]) => value));
    setBusy(true);
    setError(null);
    try {
      const [{ status, codes }] = (await api.add(id, text)).items;
      dispatch({ type: "added", item: { id, title: nameOf(text[about.title_attribute], id), text, codes, status } });
      form.current.reset();
      form.current.elements.id.focus();
    } catch (fault) {
      setError(fault);
    }
    setBusy(false);
  };
  return html`<form ref=${form} class="add" onSubmit=${submit}>
    <label for="new-id">Id</label>
    <input id="new-id" name="id" required maxlength="512" autocomplete="off" placeholder="one that no other item has" />
    ${about.attributes.map(({ name, length, values }, place) => {
      const field = `new-text-${place}`;
      const common = { id: field, name: `text-${place}`, autocomplete: "off" };
      return html`<label key=${`${field}-label`} for=${field}>${name}</label>
        ${length > LONG
          ? html`<textarea key=${field} ...${common} rows="4"></textarea>`
          : html`<input key=${field} ...${common} required=${name === about.title_attribute} list=${`${field}-values`} />
              <datalist id=${`${field}-values`}>${values.map((one) => html`<option key=${one} value=${one}></option>`)}</datalist>`}`;
    })}
    <span></span>
    <span><button type="submit" class="primary" disabled=${busy}>${busy ? "Adding…" : "Add the item"}</button></span>
    <${Problem} error=${error} />
  </form>`;
}

const TOLD = {
  added: "It is new.",
  updated: "Its text was changed; it keeps the codes it had.",
  unchanged: "It was there already, with this text.",
  restored: "It is back.",
};

function Added({ item }) {
  const { about } = useShop();
  const { data, error } = useAnswer((signal) => listed(item, about, signal), [item.id]);
  return html`<p>
      <strong><${ItemLink} id=${item.id} title=${item.title} /></strong> <${Codes} codes=${item.codes} />
      <br /><span class="quiet">${TOLD[item.status] ?? item.status}</span>
    </p>
    <${Waiting} when=${!data && !error} text="Looking for it in a list…" />
    <${Problem} error=${error} />
    ${data && html`<${Listed} id=${item.id} found=${data} />`}`;
}

/**
 * A list that the item is in, of a person whose history are its nearest neighbours by codes: of all items if it is among
 * the first there, else of those that share one of its attributes.
 */
async function listed({ id, text }, about, signal) {
  const near = (await api.item(id, NEAR, signal)).neighbours.reverse();
  const asked = { history: near.map((one) => one.item_id), k: Math.min(LIST, about.max_k), exclude_history: true };
  const own = Object.entries(text).filter(([name, value]) => name !== about.title_attribute && value.length <= LONG);
  let all = null;
  for (const filter of [null, ...own]) {
    const where = filter ? { [filter[0]]: [filter[1]] } : {};
    const { items } = await api.recommend({ ...asked, where }, signal);
    const place = items.findIndex((one) => one.item_id === id);
    all ??= items;
    if (place >= 0) return { near, items, place, filter };
  }
  return { near, items: all, place: -1, filter: null };
}

function Listed({ id, found }) {
  const { dispatch } = useShop();
  const { near, items, place, filter } = found;
  const after = `After ${near.map((one) => `“${one.title}”`).join(", ")}, its nearest by codes, it is`;
  const use = () => {
    dispatch({ type: "replace", items: near.map((one) => ({ id: one.item_id, title: one.title })) });
    dispatch({ type: "set", values: { attribute: filter?.[0] ?? "", value: filter?.[1] ?? "" } });
    location.hash = "lists";
  };
  const head = items.slice(0, Math.max(SHOWN, place < SHOWN * 2 ? place + 1 : 0));
  const rows = head.map((one, rank) => ({ ...one, rank }));
  if (place >= rows.length) rows.push({ ...items[place], rank: place });
  return html`<p>
      ${place < 0
        ? `${after} not among the first ${items.length}. Search finds it.`
        : html`${after} <strong>number ${place + 1}</strong> ${filter && `of the items whose ${filter[0]} is “${filter[1]}”`}:`}
    </p>
    <ol class="listed">
      ${rows.map(
        (one) => html`<li key=${one.item_id} value=${one.rank + 1} class=${one.item_id === id ? "taken" : ""}>${one.title}</li>`,
      )}
    </ol>
    <button type="button" class="small" onClick=${use}>Take these as history</button>`;
}

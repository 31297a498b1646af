// Small parts that several others are made of.
import { html } from "./preact.js";
import { useShop } from "./state.js";

export const percent = (share) => {
  if (share >= 0.0995) return `${(100 * share).toFixed(0)}%`;
  if (share >= 0.00995) return `${(100 * share).toFixed(1)}%`;
  if (share >= 0.0001) return `${(100 * share).toFixed(2)}%`;
  return share > 0 ? "< 0.01%" : "0%";
};

export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const nameOf = (title, id) => title || `(no title, ${id})`;

/** An item's semantic ID. */
export function Codes({ codes }) {
  return html`<span class="codes" title="semantic ID: its code at each position">
    <span class="hidden">codes </span>${codes.join(" · ")}
  </span>`;
}

/** A title that opens the item's panel. */
export function ItemLink({ id, title }) {
  const { state, dispatch } = useShop();
  return html`<button
    type="button"
    class="link title"
    aria-pressed=${state.shown === id}
    onClick=${() => dispatch({ type: "show", id })}
  >${nameOf(title, id)}</button>`;
}

/** Puts an item at the end of the history. */
export function AddButton({ id, title }) {
  const { dispatch } = useShop();
  const name = nameOf(title, id);
  return html`<button
    type="button"
    class="small"
    aria-label=${`Add ${name} to the history`}
    onClick=${() => dispatch({ type: "append", item: { id, title: name } })}
  >+ Add</button>`;
}

/** A bar as long as `share`, for the eye only: the number stands beside it. */
export function Bar({ share, strong = true }) {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return html`<span class=${strong ? "bar" : "bar pale"} aria-hidden="true"><span style=${{ width }}></span></span>`;
}

/** What went wrong, if anything did. */
export function Problem({ error }) {
  return error && html`<p class="problem" role="alert">${error.message}</p>`;
}

/** Says that something is on its way, when there is nothing to show yet. */
export function Waiting({ when, text = "One moment…" }) {
  return when && html`<p class="quiet">${text}</p>`;
}

// The map of the catalogue: what to colour by, the canvas, the legend, and the same as a list.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { Canvas } from "./canvas.js";
import { groupsOf, isDark } from "./colours.js";
import { AddButton, count, ItemLink, Problem, Waiting } from "./parts.js";
import { html, useEffect, useMemo, useState } from "./preact.js";
import { useShop } from "./state.js";

const SAMPLE = 3000; // points that a browser draws without effort
const LEGEND = 60;
const TITLES = 3;
const LISTED = 12; // items of a group in the text version

export function MapView() {
  const { state, about } = useShop();
  const [by, setBy] = useState({ position: 0 });
  const [picked, setPicked] = useState(null);
  const own = about.items > SAMPLE ? [...state.history, ...state.added].map((item) => item.id) : []; // else all are there
  const also = [...new Set(own)].slice(0, 100);
  const { data, error } = useAnswer(
    (signal) => api.map(by.attribute, SAMPLE, also, signal),
    [by.attribute, JSON.stringify(also), state.changes],
  );
  const dark = useDark();
  const points = data?.points ?? [];
  const groups = useMemo(() => groupsOf(points, by, dark), [data, by, dark]);
  const choose = (event) => {
    const [kind, which] = [event.target.value[0], event.target.value.slice(1)];
    setBy(kind === "c" ? { position: Number(which) } : { attribute: which });
    setPicked(null);
  };
  return html`<section aria-labelledby="map-title">
    <h2 id="map-title">Map of the catalogue</h2>
    <div class="settings">
      <label>
        <span>Colour by</span>
        <select onChange=${choose}>
          ${about.codes.positions.map((_, place) => html`<option key=${place} value=${`c${place}`}>code ${place + 1}</option>`)}
          ${about.attributes.map(({ name }) => html`<option key=${name} value=${`a${name}`}>${name}</option>`)}
        </select>
      </label>
    </div>
    <p class="quiet small-text">
      ${data && sampled(data)} Items with similar codes lie near each other: these are the two directions in which the
      centres of their codes differ most. Click an item to add it to the history; with a finger, tap it twice.
    </p>
    <${Problem} error=${error} />
    <${Waiting} when=${!data && !error} text="Drawing the map…" />
    ${points.length > 0 &&
    html`<div class="map">
        <${Canvas} points=${points} groups=${groups} picked=${picked} dark=${dark} />
        <${Legend} groups=${groups} picked=${picked} pick=${setPicked} />
      </div>
      <${AsList} groups=${groups} />`}
  </section>`;
}

function sampled({ items, points }) {
  if (points.length >= items) return `All ${count(items, "item")}.`;
  return `${points.length.toLocaleString("en")} of ${count(items, "item")}, evenly sampled.`;
}

/** Whether dark colours are shown; follows the setting of the system and of the page. */
function useDark() {
  const [dark, setDark] = useState(isDark);
  useEffect(() => {
    const look = () => setDark(isDark());
    const media = matchMedia("(prefers-color-scheme: dark)");
    const watch = new MutationObserver(look);
    media.addEventListener("change", look);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      media.removeEventListener("change", look);
      watch.disconnect();
    };
  }, []);
  return dark;
}

const meaning = (group, most) => group.points.slice(0, most).map((point) => point.title).join(" · ");

function Legend({ groups, picked, pick }) {
  return html`<div class="legend" role="group" aria-label="Legend: choose a group to see it alone">
    <ul>
      ${groups.slice(0, LEGEND).map(
        (group) => html`<li key=${group.name}>
          <button
            type="button"
            aria-pressed=${picked === group.name}
            onClick=${() => pick(picked === group.name ? null : group.name)}
          >
            <span class="swatch" style=${{ background: group.colour }} aria-hidden="true"></span>
            <span><strong>${group.name}</strong> <span class="quiet">${group.points.length}</span><br />
              <span class="quiet small-text">${meaning(group, TITLES)}</span></span>
          </button>
        </li>`,
      )}
    </ul>
    ${groups.length > LEGEND && html`<p class="quiet small-text">and ${groups.length - LEGEND} smaller groups</p>`}
  </div>`;
}

/** What the map shows, for those who cannot see it. */
function AsList({ groups }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The map as a list</summary>
    ${open &&
    groups.slice(0, LEGEND).map(
      (group) => html`<h3 key=${`${group.name}-name`}>${group.name}: ${count(group.points.length, "item")}</h3>
        <ul key=${group.name} class="rows">
          ${group.points.slice(0, LISTED).map(
            (point) => html`<li key=${point.item_id}>
              <${ItemLink} id=${point.item_id} title=${point.title} /><${AddButton} id=${point.item_id} title=${point.title} />
            </li>`,
          )}
        </ul>`,
    )}
  </details>`;
}

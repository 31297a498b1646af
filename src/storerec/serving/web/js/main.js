// The page: head, what is chosen on the left, what is looked at in the middle, an item on the right.
import { AddItem } from "./add.js";
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { CodesView } from "./codes.js";
import { EvaluationView } from "./evaluation.js";
import { History } from "./history.js";
import { ItemPanel } from "./item.js";
import { KeyDialog } from "./key.js";
import { MapView } from "./map.js";
import { count, Problem } from "./parts.js";
import { html, render, useEffect, useReducer, useRef } from "./preact.js";
import { Recommendations } from "./recommendations.js";
import { Search } from "./search.js";
import { reduce, Shop, START, VIEWS } from "./state.js";
import { Theme } from "./theme-button.js";

const PARTS = { lists: Recommendations, map: MapView, add: AddItem, codes: CodesView, evaluation: EvaluationView };
const viewOf = (hash) => VIEWS.find(({ name }) => `#${name}` === hash)?.name;

function Page() {
  const [state, dispatch] = useReducer(reduce, { ...START, view: viewOf(location.hash) ?? "lists" });
  const { data, error } = useAnswer((signal) => api.about(signal), [state.changes]);
  const known = useRef(null); // stays when the service cannot be asked again
  const about = data ?? known.current;
  known.current = about;
  useEffect(() => {
    const go = () => {
      const view = viewOf(location.hash || "#lists"); // none for the link that skips to the results
      if (view) dispatch({ type: "go", view });
    };
    addEventListener("hashchange", go);
    return () => removeEventListener("hashchange", go);
  }, []);
  useSearchKey();
  return html`<${Shop.Provider} value=${{ state, dispatch, about }}>
    <a class="skip" href="#view">Skip to the results</a>
    <header>
      <h1>storerec</h1>
      <p class="quiet">${about ? count(about.items, "item") : ""}</p>
      <${Theme} />
    </header>
    ${about ? html`<${Body} state=${state} />` : html`<main class="starting"><${Starting} error=${error} /></main>`}
    <p class="hidden" role="status" aria-live="polite">${state.said}</p>
    <${KeyDialog} />
  <//>`;
}

function Starting({ error }) {
  return error ? html`<${Problem} error=${error} />` : html`<p role="status">Waiting for the model…</p>`;
}

function Body({ state }) {
  const View = PARTS[state.view];
  return html`<nav aria-label="Views">
      ${VIEWS.map(
        ({ name, label }) => html`<a key=${name} href=${`#${name}`} aria-current=${state.view === name ? "page" : undefined}>${label}</a>`,
      )}
    </nav>
    <main class=${`view-${state.view}${state.shown === null ? "" : " with-panel"}`}>
      <div class="compose"><${Search} /><${History} /></div>
      <div class="view" id="view" tabindex="-1"><${View} /></div>
      ${state.shown !== null && html`<${ItemPanel} />`}
    </main>`;
}

/** The key / goes to the search, from wherever nothing is being written. */
function useSearchKey() {
  useEffect(() => {
    const go = (event) => {
      const writes = event.target.closest?.("input, textarea, select, dialog");
      if (event.key !== "/" || writes || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      document.getElementById("search")?.focus();
    };
    addEventListener("keydown", go);
    return () => removeEventListener("keydown", go);
  }, []);
}

const page = document.getElementById("page");
page.replaceChildren();
render(html`<${Page} />`, page);

// Why an item is in the list: its path through the tree of codes, and the codes that were not taken.
import { useAnswer } from "./answers.js";
import { api } from "./api.js";
import { Bar, count, percent, Problem, Waiting } from "./parts.js";
import { html } from "./preact.js";

export function Why({ history, id }) {
  const { data, error } = useAnswer((signal) => api.why(history, id, signal), [JSON.stringify(history), id]);
  return html`<div class="why">
    <${Waiting} when=${!data && !error} />
    <${Problem} error=${error} />
    ${data && html`<${Path} why=${data} />`}
  </div>`;
}

function Path({ why }) {
  return html`<p class="quiet small-text">
      The model writes the item's codes one by one. At each it weighs the codes that lead to an item; titles say what lies
      behind a code.
    </p>
    <ol class="path">
      ${why.steps.map((step, place) => html`<${Step} key=${place} step=${step} place=${place} />`)}
    </ol>
    <${Sum} why=${why} />`;
}

function Step({ step, place }) {
  const { chosen, others } = step;
  if (others.length === 0 && chosen.items === 1 && place > 0) {
    return html`<li class="only">
      <h3>Code ${place + 1}</h3>
      <p><span class="code">${chosen.code}</span> <span class="quiet">is all that is left: the item alone lies here</span></p>
    </li>`;
  }
  const branches = [{ ...chosen, taken: true }, ...others].sort((a, b) => b.probability - a.probability);
  return html`<li>
    <h3>Code ${place + 1}</h3>
    <ul>
      ${branches.map((branch) => html`<${Branch} key=${branch.code} branch=${branch} />`)}
    </ul>
    ${others.length === 0 && html`<p class="quiet small-text">No other code leads on from here.</p>`}
  </li>`;
}

function Branch({ branch }) {
  const { code, probability, items, titles, taken } = branch;
  const more = items - titles.length;
  return html`<li class=${taken ? "taken" : ""} aria-current=${taken ? "step" : undefined}>
    <span class="code">${taken && html`<span class="hidden">taken: </span>`}${code}</span>
    <span class="score"><${Bar} share=${probability} strong=${taken} /><span class="number">${percent(probability)}</span></span>
    <span class="meaning">${titles.join(" · ")}${more > 0 && html` <span class="quiet">and ${count(more, "other")}</span>`}</span>
  </li>`;
}

function Sum({ why }) {
  const factors = why.steps.map((step) => step.chosen.probability);
  const product = factors.reduce((a, b) => a * b, why.share);
  const shared = why.share < 0.9995;
  return html`<dl class="sum">
    <dt>By its codes</dt>
    <dd>
      ${factors.map(percent).join(" × ")}${shared && html` × ${percent(why.share)} <span class="quiet">(its share among the
        items with these codes)</span>`} = <strong>${percent(product)}</strong>
    </dd>
    ${why.alone !== null &&
    html`<dt>By its own row</dt>
      <dd>
        <strong>${percent(why.alone)}</strong>
        <span class="quiet"> the model also knows the item as a whole; this counts ${percent(why.weight)} of the score</span>
      </dd>`}
    <dt>Score</dt>
    <dd><strong>${percent(Math.exp(why.score))}</strong> <span class="quiet">(logarithm ${why.score.toFixed(3)})</span></dd>
  </dl>`;
}

// What was measured of the run: bars with intervals for each system, for all users and by the target's frequency.
import { Intervals } from "./charts.js";
import { count, percent } from "./parts.js";
import { html, useState } from "./preact.js";
import { useShop } from "./state.js";

const FIRST = "ndcg@10";
const number = (value) => value.toFixed(4);
const metricName = (name) => name.replace(/^ndcg/, "NDCG").replace(/^recall/, "Recall").replace(/^mrr/, "MRR");
const systemName = (name) => (name === "store" ? "STORE" : name);

export function EvaluationView() {
  const { evaluation } = useShop().about;
  return html`<section aria-labelledby="evaluation-title">
    <h2 id="evaluation-title">Evaluation</h2>
    ${evaluation ? html`<${Figures} evaluation=${evaluation} />` : html`<${Nothing} />`}
  </section>`;
}

function Nothing() {
  return html`<p>
    There are no figures here. They are shown when a run folder is served (not its bundle alone) in which
    ${" "}<code>storerec evaluate</code> has measured the run.
  </p>`;
}

function Figures({ evaluation }) {
  const { systems, users, confidence } = evaluation;
  const names = Object.keys(systems[0].metrics);
  const [metric, setMetric] = useState(names.includes(FIRST) ? FIRST : names[0]);
  const top = Math.max(...systems.map((one) => one.metrics[metric].high));
  return html`<p class="quiet">${statement(evaluation)}</p>
    <div class="settings">
      <label>
        <span>Metric</span>
        <select value=${metric} onChange=${(event) => setMetric(event.target.value)}>
          ${names.map((name) => html`<option key=${name} value=${name} selected=${name === metric}>${metricName(name)}</option>`)}
        </select>
      </label>
    </div>
    <h3>${metricName(metric)}, all ${users.toLocaleString("en")} users</h3>
    <${Intervals} rows=${systems.map((one) => rowOf(one.system, one.metrics[metric]))} top=${top} format=${number} />
    <p class="quiet small-text">
      Lines are ${percent(confidence)} intervals over the users, each system by itself. What tells two systems apart are
      paired differences, which <code>storerec evaluate</code> prints.
    </p>
    <h3>By training events of the item to be found</h3>
    <${Slices} systems=${systems} metric=${metric} />
    <h3>All figures</h3>
    <${Table} systems=${systems} names=${names} />`;
}

function statement({ users, items, protocol, exclude_history: excluded }) {
  const how = protocol ? ` (${protocol.replaceAll("_", "-")})` : "";
  const own = excluded ? "a user's own items left out of the lists" : "a user's own items among the ranked";
  return `${count(users, "user")}, one item each to be found among ${items.toLocaleString("en")}${how}, ${own}.`;
}

const rowOf = (system, interval) => ({ label: systemName(system), ...interval, strong: system === "store" });

function Slices({ systems, metric }) {
  const parts = systems[0].slices.map(({ name, users }, place) => ({
    name,
    users,
    rows: systems
      .filter((one) => one.slices[place]?.metrics[metric])
      .map((one) => rowOf(one.system, one.slices[place].metrics[metric])),
  }));
  const top = Math.max(...parts.flatMap((part) => part.rows.map((row) => row.high)), 1e-9);
  return parts.map(
    ({ name, users, rows }) => html`<h4 key=${`${name}-name`}>${name} <span class="quiet">${count(users, "user")}</span></h4>
      ${rows.length
        ? html`<${Intervals} key=${name} rows=${rows} top=${top} format=${number} />`
        : html`<p class="quiet">Nobody.</p>`}`,
  );
}

function Table({ systems, names }) {
  const coverage = Object.keys(systems[0].coverage);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="All figures">
    <table class="figures">
      <thead>
        <tr><th scope="col">system</th>${[...names.map(metricName), ...coverage].map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr>
      </thead>
      <tbody>
        ${systems.map(
          (one) => html`<tr key=${one.system}>
            <th scope="row">${systemName(one.system)}</th>
            ${names.map((name) => html`<td key=${name}>${number(one.metrics[name].value)}</td>`)}
            ${coverage.map((name) => html`<td key=${name}>${one.coverage[name].toFixed(3)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

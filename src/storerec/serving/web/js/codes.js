// Use of the codes: how many of a position's codes are used, how evenly, and how many items share all of theirs.
import { Usage } from "./charts.js";
import { Bar, count, percent } from "./parts.js";
import { html } from "./preact.js";
import { useShop } from "./state.js";

export function CodesView() {
  const { about } = useShop();
  const { codes, fit, removed } = about;
  const shared = codes.items - Math.round(codes.items * (1 - codes.colliding_share));
  return html`<section aria-labelledby="codes-title">
    <h2 id="codes-title">Use of the codes</h2>
    <dl class="tiles">
      <${Tile} name="items" value=${codes.items} note=${removed > 0 && `${removed} of them in no list`} />
      <${Tile} name="semantic IDs" value=${codes.tuples} />
      <${Tile} name="items that share theirs" value=${shared} note=${percent(codes.colliding_share)} />
      <${Tile} name="most items on one" value=${codes.largest_bucket} />
    </dl>
    <div class="positions">
      ${codes.positions.map((position, place) => html`<${Position} key=${place} position=${position} place=${place} />`)}
    </div>
    <p class="quiet small-text">
      Codes in effect (perplexity) are as many as would be used if all were used alike. Far below the number of codes, some
      few codes hold most of the items. The step plots have a code at each step, the most used first.
    </p>
    <h3>Items added since the training</h3>
    ${fit ? html`<${Fit} fit=${fit} />` : html`<p class="quiet">None that is measured against the codebook.</p>`}
  </section>`;
}

function Tile({ name, value, note }) {
  return html`<div><dt>${name}</dt><dd>${value.toLocaleString("en")}${note && html` <span class="quiet">${note}</span>`}</dd></div>`;
}

function Position({ position, place }) {
  const { size, used, perplexity, counts } = position;
  const label = `Items of each code at position ${place + 1}: the most used has ${counts[0]}, ${count(used, "code")} of ${size} used`;
  return html`<article>
    <h3>Code ${place + 1}</h3>
    <dl class="measures">
      <dt>used</dt>
      <dd><${Bar} share=${used / size} /><span class="number">${used} of ${size}</span></dd>
      <dt>in effect</dt>
      <dd><${Bar} share=${perplexity / size} /><span class="number">${perplexity.toFixed(1)}</span></dd>
    </dl>
    <${Usage} counts=${counts} size=${size} label=${label} />
    <p class="quiet small-text">the most used code has ${count(counts[0], "item")}</p>
  </article>`;
}

function Fit({ fit }) {
  return html`<p class=${fit.refit ? "problem" : ""}>${fit.verdict}.</p>
    <dl class="measures">
      ${fit.far.map(
        (share, place) => html`<dt key=${`${place}-name`}>far at code ${place + 1}</dt>
          <dd key=${place}><${Bar} share=${share} /><span class="number">${percent(share)}</span></dd>`,
      )}
    </dl>`;
}

// Plots made of plain elements: they follow the page's width, font and colours, and can be read out.
import { html } from "./preact.js";

/** Bars with intervals, one a row: `{label, value, low, high, strong}`; `top` is the value at full length. */
export function Intervals({ rows, top, format }) {
  const at = (value) => `${(100 * Math.max(0, value)) / (top || 1)}%`;
  return html`<table class="intervals">
    <tbody>
      ${rows.map(
        ({ label, value, low, high, strong }) => html`<tr key=${label} class=${strong ? "strong" : ""}>
          <th scope="row">${label}</th>
          <td class="track" aria-hidden="true">
            <span class="value" style=${{ width: at(value) }}></span>
            ${high > low && html`<span class="interval" style=${{ left: at(low), width: at(high - low) }}></span>`}
          </td>
          <td class="number">${format(value)} <span class="quiet">${format(low)} – ${format(high)}</span></td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

/** Falling steps: how many items each code has, the most used first. */
export function Usage({ counts, size, label }) {
  const most = Math.max(...counts, 1);
  const steps = counts.map((items, place) => `H${place} V${most - items}`).join(" ");
  const outline = `M0 ${most} ${steps} H${counts.length} V${most} Z`;
  return html`<svg
    class="usage"
    viewBox=${`0 0 ${Math.min(size, counts.length) || 1} ${most}`}
    preserveAspectRatio="none"
    role="img"
    aria-label=${label}
  ><path d=${outline} /></svg>`;
}

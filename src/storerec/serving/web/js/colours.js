// Colours of the map: the most frequent groups get colours that are told apart well, the others paler ones by number.

const LIGHT = ["#2f6fde", "#d9480f", "#2b8a3e", "#9c36b5", "#b8860b", "#0b8a9a", "#c2255c", "#5f6b7a", "#6741d9", "#7a4a1e"];
const DARK = ["#74a5ff", "#ff9355", "#69cf7c", "#d88bee", "#e6bd47", "#4dd0e1", "#ff85b0", "#aab4c3", "#a58bff", "#cfa27a"];

export const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

/**
 * Groups of points that share a code or value, the largest first: `{name, points, colour}`.
 * `by` is `{position}` for codes, or `{attribute}` for the value that the points came with.
 */
export function groupsOf(points, by, dark) {
  const found = new Map();
  for (const point of points) {
    const name = by.attribute === undefined ? `code ${point.codes[by.position]}` : point.value || "(empty)";
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(point);
  }
  const palette = dark ? DARK : LIGHT;
  return [...found]
    .sort(([a, x], [b, y]) => y.length - x.length || a.localeCompare(b, "en", { numeric: true }))
    .map(([name, members], rank) => ({
      name,
      points: members,
      colour: rank < palette.length ? palette[rank] : paler(rank, dark),
    }));
}

// steps of the golden angle: neighbours in rank differ most
const paler = (rank, dark) => `hsl(${(rank * 137.5) % 360} 32% ${dark ? 68 : 52}%)`;

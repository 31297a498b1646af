// The drawing of the map, without the page around it: where points are on the canvas, and which is near.

const MARGIN = 24;
const NEAR = 14; // pixels

/** The view in which all points are to be seen: `{scale, x, y}`, the middle in the points' own units. */
export function wholeView(points, width, height) {
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const across = Math.max(width - 2 * MARGIN, 1) / Math.max(right - left, 1e-9);
  const up = Math.max(height - 2 * MARGIN, 1) / Math.max(high - low, 1e-9);
  return { scale: Math.min(across, up), x: (left + right) / 2, y: (low + high) / 2 };
}

export const onCanvas = (point, view, size) => [
  size.width / 2 + (point.x - view.x) * view.scale,
  size.height / 2 - (point.y - view.y) * view.scale,
];

/** The view after a change of scale by `factor`, with what is at (px, py) staying there. */
export function zoomed(view, size, factor, px = size.width / 2, py = size.height / 2) {
  const scale = view.scale * factor;
  const [dx, dy] = [px - size.width / 2, size.height / 2 - py];
  return { scale, x: view.x + dx / view.scale - dx / scale, y: view.y + dy / view.scale - dy / scale };
}

export const moved = (view, dx, dy) => ({ ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale });

/** Points under (px, py), the nearest first; those at one place come together. */
export function pointsAt(points, view, size, px, py) {
  const found = [];
  for (const point of points) {
    const [x, y] = onCanvas(point, view, size);
    const distance = Math.hypot(x - px, y - py);
    if (distance < NEAR) found.push({ point, distance });
  }
  return found.sort((a, b) => a.distance - b.distance).map((one) => one.point);
}

/** The nearest point from `from` in the direction of an arrow key; itself where there is none. */
export function pointTowards(points, from, [dx, dy]) {
  let best = from;
  let least = Infinity;
  for (const point of points) {
    const [x, y] = [point.x - from.x, point.y - from.y];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy - y * dx);
    const cost = along + 2 * aside; // straight on is better than near
    if (along > 1e-9 && aside <= along && cost < least) [best, least] = [point, cost];
  }
  return best;
}

/**
 * Draw groups of points; those of other groups than `picked` (a name, or null) are dim.
 * `marks` are drawn above all: `{point, label}` of the history, and `{point}` of what is looked at.
 */
export function draw(canvas, { groups, picked, marks, view, size, ink, paper }) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);
  for (const group of [...groups].reverse()) {
    const dim = picked !== null && group.name !== picked;
    pen.globalAlpha = dim ? 0.12 : 0.8;
    pen.fillStyle = dim ? ink : group.colour;
    for (const point of group.points) dot(pen, onCanvas(point, view, size), picked === group.name ? 5 : 3.5);
  }
  pen.globalAlpha = 1;
  pen.font = "600 12px system-ui, sans-serif";
  for (const { point, label } of marks) {
    const [x, y] = onCanvas(point, view, size);
    pen.lineWidth = 4;
    ring(pen, x, y, paper);
    pen.lineWidth = 2;
    ring(pen, x, y, ink);
    if (!label) continue;
    pen.lineWidth = 4;
    pen.strokeStyle = paper;
    pen.strokeText(label, x + 10, y - 6);
    pen.fillStyle = ink;
    pen.fillText(label, x + 10, y - 6);
  }
}

function dot(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function ring(pen, x, y, colour) {
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.arc(x, y, 7, 0, 2 * Math.PI);
  pen.stroke();
}

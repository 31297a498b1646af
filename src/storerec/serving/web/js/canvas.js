// The map's canvas under the hand: drag and wheel or two fingers, and the same by keyboard.
import { nameOf } from "./parts.js";
import { draw, moved, onCanvas, pointsAt, pointTowards, wholeView, zoomed } from "./plane.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { useShop } from "./state.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const CLICK = 5; // pixels that a click may wander

export function Canvas({ points, groups, picked, dark }) {
  const { state, dispatch } = useShop();
  const canvas = useRef(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [view, setView] = useState(null);
  const [looked, setLooked] = useState([]); // points at one place, the first is meant
  const shown = view ?? wholeView(points, size.width, size.height);

  useEffect(() => {
    const watch = new ResizeObserver(([{ contentRect }]) => setSize({ width: contentRect.width, height: contentRect.height }));
    watch.observe(canvas.current);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (!size.width) return;
    const style = getComputedStyle(canvas.current);
    const marks = marksOf(points, state.history, looked[0]);
    draw(canvas.current, { groups, picked, marks, view: shown, size, ink: style.color, paper: style.backgroundColor });
  }, [groups, picked, shown, size, looked, state.history, dark]);

  const add = (point) => point && dispatch({ type: "append", item: { id: point.item_id, title: nameOf(point.title, point.item_id) } });
  const act = { points, size, shown, setView, looked, setLooked, add, picked, groups };
  const hands = usePointers(act);
  useWheel(canvas, (factor, x, y) => setView(zoomed(shown, size, factor, x, y)));

  return html`<div class="canvas">
    <canvas
      ref=${canvas}
      tabindex="0"
      role="application"
      aria-label="Map of the catalogue. Arrow keys go from item to item, Enter adds one to the history, plus and minus change the scale, 0 shows all."
      onKeyDown=${(event) => onKey(event, act)}
      ...${hands}
    ></canvas>
    ${looked.length > 0 && html`<${Tip} looked=${looked} place=${onCanvas(looked[0], shown, size)} size=${size} />`}
    <p class="hidden" role="status">${looked[0] && describe(looked)}</p>
    <div class="zoom">
      <button type="button" class="icon" aria-label="Larger" onClick=${() => setView(zoomed(shown, size, 1.5))}>+</button>
      <button type="button" class="icon" aria-label="Smaller" onClick=${() => setView(zoomed(shown, size, 1 / 1.5))}>−</button>
      <button type="button" class="small" onClick=${() => setView(null)}>All</button>
    </div>
  </div>`;
}

function marksOf(points, history, looked) {
  const places = new Map(points.map((point) => [point.item_id, point]));
  const marks = history.map((item, place) => ({ point: places.get(item.id), label: String(place + 1) }));
  return [...marks, { point: looked && places.get(looked.item_id) }].filter((mark) => mark.point);
}

const describe = ([point, ...others]) =>
  `${nameOf(point.title, point.item_id)}, codes ${point.codes.join(" ")}${others.length ? `, and ${others.length} more here` : ""}`;

function Tip({ looked, place: [x, y], size }) {
  const style = { left: `${Math.min(Math.max(x, 80), Math.max(size.width - 80, 80))}px`, top: `${y}px` };
  return html`<div class=${y < 90 ? "tip below" : "tip"} style=${style} aria-hidden="true">
    <strong>${nameOf(looked[0].title, looked[0].item_id)}</strong>
    <span class="codes">${looked[0].codes.join(" · ")}</span>
    ${looked.length > 1 && html`<span>and ${looked.length - 1} more here</span>`}
  </div>`;
}

function onKey(event, { points, size, shown, setView, looked, setLooked, add }) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const middle = { x: shown.x, y: shown.y };
    const next = looked[0] ? pointTowards(points, looked[0], arrow) : nearest(points, middle);
    const [x, y] = onCanvas(next, shown, size);
    if (x < 0 || y < 0 || x > size.width || y > size.height) setView({ ...shown, x: next.x, y: next.y });
    setLooked([next]);
  } else if (event.key === "Enter" || event.key === " ") add(looked[0]);
  else if (event.key === "+" || event.key === "=") setView(zoomed(shown, size, 1.5));
  else if (event.key === "-") setView(zoomed(shown, size, 1 / 1.5));
  else if (event.key === "0") setView(null);
  else if (event.key === "Escape") setLooked([]);
  else return;
  event.preventDefault();
}

const nearest = (points, { x, y }) =>
  points.reduce((a, b) => (Math.hypot(a.x - x, a.y - y) <= Math.hypot(b.x - x, b.y - y) ? a : b));

/** Dragging with one pointer, scaling with two, and clicks, which do not wander. */
function usePointers({ points, size, shown, setView, looked, setLooked, add, picked, groups }) {
  const down = useRef(new Map()); // pointer -> [x, y]
  const wandered = useRef(0);
  const seen = picked === null ? points : (groups.find((group) => group.name === picked)?.points ?? points);
  const placeOf = (event) => [event.offsetX, event.offsetY];
  return {
    onPointerDown: (event) => {
      event.target.setPointerCapture(event.pointerId);
      if (down.current.size === 0) wandered.current = 0;
      down.current.set(event.pointerId, placeOf(event));
    },
    onPointerMove: (event) => {
      const here = placeOf(event);
      const before = down.current.get(event.pointerId);
      if (!before) {
        setLooked(pointsAt(seen, shown, size, ...here));
        return;
      }
      const step = [here[0] - before[0], here[1] - before[1]];
      wandered.current += Math.hypot(...step);
      const other = [...down.current].find(([id]) => id !== event.pointerId)?.[1];
      down.current.set(event.pointerId, here);
      if (other) {
        const factor = Math.hypot(here[0] - other[0], here[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
        setView(zoomed(shown, size, factor, (here[0] + other[0]) / 2, (here[1] + other[1]) / 2));
      } else if (wandered.current > CLICK) setView(moved(shown, ...step));
    },
    onPointerUp: (event) => {
      down.current.delete(event.pointerId);
      if (wandered.current > CLICK) return;
      const found = pointsAt(seen, shown, size, ...placeOf(event));
      setLooked(found);
      // a finger has not seen the title before it touches, so its first touch shows it and the second adds it
      if (event.pointerType !== "touch" || found[0] === looked[0]) add(found[0]);
    },
    onPointerCancel: (event) => down.current.delete(event.pointerId),
    onPointerLeave: (event) => event.pointerType !== "touch" && down.current.size === 0 && setLooked([]),
  };
}

/** The wheel scales where the map has the focus, and two fingers on a touchpad always do; else the page scrolls on. */
function useWheel(canvas, zoom) {
  const latest = useRef(zoom);
  latest.current = zoom;
  useEffect(() => {
    const turn = (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas.current) return;
      event.preventDefault();
      latest.current(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    };
    const element = canvas.current;
    element.addEventListener("wheel", turn, { passive: false }); // only such a listener can keep the page still
    return () => element.removeEventListener("wheel", turn);
  }, []);
}

// Preact and htm put together: html`<p>…</p>` makes elements, and whatever is put into them is escaped.
import htm from "../vendor/htm.module.js";
import { h } from "../vendor/preact.module.js";

export const html = htm.bind(h);
export { createContext, render } from "../vendor/preact.module.js";
export {
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../vendor/hooks.module.js";

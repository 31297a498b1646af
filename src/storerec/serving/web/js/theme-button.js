// Light, dark, or as the system has it; the choice is kept in this browser.
import { html, useState } from "./preact.js";

const NEXT = { system: "light", light: "dark", dark: "system" };
const SIGN = { system: "◐", light: "☀", dark: "☾" };

export function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "system");
  const change = () => {
    const next = NEXT[theme];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("storerec-theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("storerec-theme", next);
    }
    setTheme(next);
  };
  return html`<button type="button" class="small theme" aria-label=${`Colours: ${theme}. Change to ${NEXT[theme]}`} onClick=${change}>
    <span aria-hidden="true">${SIGN[theme]}</span> ${theme}
  </button>`;
}

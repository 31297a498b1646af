// Asks for the API key, once: it is kept until the browser's tab is closed.
import { onKeyNeeded } from "./api.js";
import { html, useEffect, useRef, useState } from "./preact.js";

export function KeyDialog() {
  const [asked, setAsked] = useState(null); // {refused, give}
  const dialog = useRef(null);
  const field = useRef(null);

  useEffect(() => {
    onKeyNeeded((refused) => new Promise((give) => setAsked({ refused, give })));
  }, []);
  useEffect(() => {
    if (asked && !dialog.current.open) dialog.current.showModal();
  }, [asked]);

  const submit = (event) => {
    event.preventDefault();
    const key = field.current.value.trim();
    if (!key) return;
    dialog.current.close();
    setAsked(null);
    asked.give(key);
  };
  return html`<dialog ref=${dialog} class="key" aria-labelledby="key-title" onCancel=${(event) => event.preventDefault()}>
    <form onSubmit=${submit}>
      <h2 id="key-title">API key</h2>
      <p>
        ${asked?.refused ? "The service refused this key." : "This service answers to those who have its key."} It is
        kept in this tab only, until it is closed.
      </p>
      <label for="key">Key</label>
      <input id="key" ref=${field} type="password" autocomplete="off" required />
      <p><button type="submit" class="primary">Use this key</button></p>
    </form>
  </dialog>`;
}

// Questions to the service as parts of the page ask them: the latest one counts, older ones are given up.
import { useEffect, useState } from "./preact.js";

/**
 * The answer to `ask(signal)`, asked anew when one of `needs` changes, after `wait` milliseconds without a change.
 * The answer before stays in `data` until the next one is there.
 */
export function useAnswer(ask, needs, wait = 0) {
  const [answer, setAnswer] = useState({ data: null, error: null, busy: true });
  useEffect(() => {
    const stop = new AbortController();
    setAnswer((old) => ({ ...old, busy: true }));
    const timer = setTimeout(async () => {
      let next;
      try {
        next = { data: await ask(stop.signal), error: null, busy: false };
      } catch (error) {
        next = { data: null, error, busy: false };
      }
      if (!stop.signal.aborted) setAnswer(next);
    }, wait);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, needs);
  return answer;
}

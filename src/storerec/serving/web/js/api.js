// Everything that is asked of the service.

const ROOT = new URL("../../", import.meta.url); // the page may be served below some path
const KEY = "storerec-api-key";
const MOST_WAITS = 120; // while a large model is being loaded

export class ApiError extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

let asking = null; // the promise of a key, shared by all requests that wait for it
let askUser = () => Promise.reject(new ApiError(401, "unauthorized", "The service asks for an API key."));

/** Have `ask` get an API key from the user: it is given whether one was refused, and promises the key. */
export function onKeyNeeded(ask) {
  askUser = ask;
}

async function newKey(refused) {
  asking ??= askUser(refused).finally(() => {
    asking = null;
  });
  sessionStorage.setItem(KEY, await asking);
}

async function request(method, path, { body, query, signal } = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) if (one != null) url.searchParams.append(name, one);
  }
  for (let waits = 0; ; waits += 1) {
    const key = sessionStorage.getItem(KEY);
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers["X-API-Key"] = key;
    const answer = await reached(url, { method, headers, body: JSON.stringify(body), signal });
    if (answer.ok) return answer.json();
    const fault = await faultOf(answer);
    if (fault.status === 401) {
      // another request may have got a key meanwhile
      if (sessionStorage.getItem(KEY) === key) await newKey(Boolean(key));
    } else if (fault.kind === "not_ready" && waits < MOST_WAITS) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } else {
      throw fault;
    }
    signal?.throwIfAborted();
  }
}

async function reached(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The service cannot be reached. Is it still running?");
  }
}

async function faultOf(answer) {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, error.type, error.message);
  } catch {
    return new ApiError(answer.status, "unknown", `The service answered with status ${answer.status}.`);
  }
}

const item = (id) => `v1/items/${encodeURIComponent(id)}`;

export const api = {
  about: (signal) => request("GET", "v1/about", { signal }),
  search: (text, limit, signal) => request("GET", "v1/search", { query: { q: text, limit }, signal }),
  recommend: (body, signal) => request("POST", "v1/recommend", { body, signal }),
  why: (history, id, signal) => request("POST", "v1/why", { body: { history, item_id: id }, signal }),
  score: (history, candidates, signal) => request("POST", "v1/score", { body: { history, candidates }, signal }),
  map: (attribute, limit, also, signal) => request("GET", "v1/map", { query: { attribute, limit, also }, signal }),
  item: (id, neighbours, signal) => request("GET", item(id), { query: { neighbours }, signal }),
  add: (id, text) => request("POST", "v1/items", { body: { items: [{ item_id: id, text }] } }),
  remove: (id) => request("DELETE", item(id)),
};

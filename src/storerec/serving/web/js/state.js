// What all parts of the page share: the history, the item looked at, and what was added or removed here.
import { createContext, useContext } from "./preact.js";

export const VIEWS = [
  { name: "lists", label: "Recommend" },
  { name: "map", label: "Map" },
  { name: "add", label: "Add" },
  { name: "codes", label: "Codes" },
  { name: "evaluation", label: "Evaluation" },
];

export const START = {
  view: "lists",
  history: [], // of {key, id, title}, oldest first
  made: 0, // keys given out
  shown: null, // id of the item in the panel
  changes: 0, // grows when the catalogue changes; what was asked before is asked again
  added: [], // of {id, title, text, codes, status}, latest first
  removed: [], // of {id, title, text}, latest first
  k: 10,
  excludeHistory: true,
  attribute: "",
  value: "",
  said: "", // read out by screen readers
};

const steps = {
  go: (state, { view }) => ({ ...state, view }),
  set: (state, { values }) => ({ ...state, ...values }),
  show: (state, { id }) => ({ ...state, shown: id }),
  say: (state, { text }) => ({ ...state, said: text }),
  append: (state, { item }) => ({
    ...state,
    made: state.made + 1,
    history: [...state.history, { key: state.made, id: item.id, title: item.title }],
    said: `${item.title} is now number ${state.history.length + 1} of the history`,
  }),
  replace: (state, { items }) => ({
    ...state,
    made: state.made + items.length,
    history: items.map((item, place) => ({ key: state.made + place, id: item.id, title: item.title })),
    said: `The history has ${items.length} items now`,
  }),
  drop: (state, { place }) => ({
    ...state,
    history: state.history.filter((_, other) => other !== place),
    said: `${state.history[place].title} was taken out of the history`,
  }),
  move: (state, { place, to }) => {
    if (to < 0 || to >= state.history.length) return state;
    const history = [...state.history];
    const [item] = history.splice(place, 1);
    history.splice(to, 0, item);
    return { ...state, history, said: `${item.title} is now number ${to + 1} of the history` };
  },
  added: (state, { item }) => ({
    ...state,
    changes: state.changes + 1,
    added: [item, ...state.added.filter((one) => one.id !== item.id)],
    removed: state.removed.filter((one) => one.id !== item.id),
    said: `${item.title}: ${item.status}`,
  }),
  removed: (state, { item }) => ({
    ...state,
    changes: state.changes + 1,
    added: state.added.filter((one) => one.id !== item.id),
    removed: [item, ...state.removed.filter((one) => one.id !== item.id)],
    said: `${item.title} is in no list any more`,
  }),
};

export const reduce = (state, action) => steps[action.type](state, action);

export const Shop = createContext(null);

/** `{ state, dispatch, about }` of the page. */
export const useShop = () => useContext(Shop);

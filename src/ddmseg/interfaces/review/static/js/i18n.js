// Words: one JSON file a language, keys the same in all.

const LANGUAGES = ["en", "zh"];
const KEPT = "ddmseg-review-language";
let words = {};
let language = "en";

export const current = () => language;
export const other = () => LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length];

function preferred() {
  const kept = localStorage.getItem(KEPT);
  if (LANGUAGES.includes(kept)) return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export async function load(wanted = preferred()) {
  const answer = await fetch(`/static/i18n/${wanted}.json`);
  words = await answer.json();
  language = wanted;
  localStorage.setItem(KEPT, wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : wanted;
  translate(document);
}

/** The words of a key, `{name}` replaced by values. */
export function t(key, values = {}) {
  const found = words[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** A structure by its FreeSurfer name; as written there when this language has no other. */
export function structure(name) {
  return words[`structure.${name}`] ?? name.replaceAll("-", " ").replaceAll("_", " ");
}

export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
  for (const element of root.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
}

export const number = (value, digits) =>
  value === null || value === undefined ? "–" : value.toFixed(digits);

/** Millilitres with as many digits as they are worth. */
export const ml = (value) => `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ml`;

export const time = (iso) =>
  new Date(iso).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", {
    dateStyle: "medium",
    timeStyle: "short",
  });

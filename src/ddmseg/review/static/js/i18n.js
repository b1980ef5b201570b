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

/** The reasons of a verdict in this language; in English where a result knows no codes. */
export function reasons({ reasons: sentences, reason_codes: codes = [], reason_subjects: subjects = [] }) {
  return sentences.map((sentence, at) => {
    const text = saidIfWell(codes[at]);
    const data = { about: t(`subject.${subjects[at] ?? "scan"}`) };
    return text === null ? { text: sentence, lang: "en", data } : { text, data };
  });
}

/** What went wrong, in this language; where only English is known, with a word on what failed. */
export function problem({ message, status, code }) {
  const known = code?.code ?? `status.${status}`;
  const text = words[`error.${known}`];
  if (text !== undefined) return { text: t(`error.${known}`, parts(code?.values)) };
  const kind = words[`error.kind.${status}`];
  if (kind !== undefined) return { text: t(`error.kind.${status}`, { sentence: message }) };
  return { text: message, lang: "en" };
}

/** Values of an error; what is itself in words is in those of this language where it is known. */
function parts(values = {}) {
  const translated = Object.entries(values).map(([name, value]) => [name, words[`part.${value}`] ?? value]);
  return Object.fromEntries(translated);
}

/** As `said`, or null for values that a hand has changed: the sentence is there all the same. */
function saidIfWell(reason) {
  try {
    return said(reason);
  } catch {
    return null;
  }
}

/** A reason from its code and values, or null when this page does not know it. */
function said(reason) {
  if (!reason || !Object.hasOwn(words, `reason.${reason.code}`)) return null;
  const { code, values } = reason;
  const filled = shown(values);
  if (code === "on_side") filled.reason = said(values.reason) ?? values.sentence;
  if (Array.isArray(values.structures)) {
    const items = values.structures.map((one) => t(`reason.${code}.item`, named(one, code)));
    const more = values.more ? t("reason.more", { count: values.more }) : "";
    filled.structures = items.join(t("reason.comma")) + more;
  }
  return t(`reason.${code}`, filled);
}

/** Values as text: shares have two digits, sides and faces are words of this language. */
function shown(values) {
  const filled = { ...values };
  for (const [name, value] of Object.entries(values)) {
    if (name.startsWith("dice")) filled[name] = number(value, 2);
    if (name === "side" || name === "face") filled[name] = t(`reason.${name}.${value}`);
  }
  return filled;
}

function named(one, code) {
  const name = structure(one.name);
  const side = t("reason.left");
  // a pair is named once, by its left half
  const pair = code === "asymmetric" && name.startsWith(side);
  return { ...shown(one), name: pair ? name.slice(side.length) : name };
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

// Elements without markup in strings: whatever a file is called, it stays text.

export const find = (selector, root = document) => root.querySelector(selector);

/** Make an element; `on` holds listeners, `data` data attributes, the rest are attributes. */
export function make(tag, { on = {}, data = {}, text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SHAPES = {
  pass: "M6 1.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6z",
  warn: "M6 1 11.4 10.6H.6z",
  fail: "M1.6 1.6h8.8v8.8H1.6z",
};

/** A small coloured mark; its shape tells the verdict without the colour. */
export function mark(verdict, label) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", `mark ${verdict}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[verdict]);
  svg.append(path);
  return svg;
}

export function swatch(colour) {
  const element = make("i", { class: "swatch", "aria-hidden": "true" });
  element.style.setProperty("--c", colour);
  return element;
}

let hiding = 0;

/** Say one line at the foot of the page; `lang` where it is not the page's own. */
export function say(text, kind = "", lang = "") {
  const toast = find("#toast");
  toast.textContent = text;
  toast.lang = lang || document.documentElement.lang;
  toast.className = `toast shown ${kind}`;
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), kind === "error" ? 9000 : 4000);
}

// Every key in one table: what it does, where it holds, and the overlay that lists them.

import { find, make } from "./dom.js";
import { t } from "./i18n.js";

/** Groups of `[keys, words, action]`; the first group whose `when` holds takes a key. */
let groups = [];

const TYPING = "input:not([type=range]), textarea, select";
const CHOOSING = "input[type=range], select, [role=tab]";

export function begin(wanted) {
  groups = wanted;
  window.addEventListener("keydown", onKey, true);
  // NiiVue has keys of its own on the canvas; here all keys are in this table
  window.addEventListener("keyup", (event) => event.target.id === "canvas" && event.stopPropagation(), true);
}

function nameOf(event) {
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = event.shiftKey && event.key.length > 1 ? "Shift+" : "";
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${control}${shift}${key}`;
}

function onKey(event) {
  const { target } = event;
  if (target.id === "canvas") event.stopPropagation();
  const name = nameOf(event);
  const typing = target.matches?.(TYPING);
  if ((typing && name !== "Escape" && !name.startsWith("Ctrl+")) || event.altKey) return;
  if (target.matches?.(CHOOSING) && /^(Arrow|Page|Home|End)/.test(name)) return;
  if (target.matches?.("button, a, summary") && (name === "Enter" || name === "Space")) return;
  if (find("#help").open) return;
  for (const group of groups) {
    if (!group.when()) continue;
    const found = group.keys.find(([keys]) => keys.includes(name));
    if (!found) continue;
    event.preventDefault();
    event.stopPropagation();
    found[2](event);
    return;
  }
}

const SHOWN = {
  ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", PageUp: "PgUp", PageDown: "PgDn",
};

function shown(key) {
  const parts = key.split("+").map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part));
  // a lone "+" is a key and not a joint
  return key === "+" ? "+" : parts.join(" ");
}

export function openHelp() {
  const dialog = find("#help");
  const sections = groups.map((group) =>
    make(
      "section",
      {},
      make("h3", { text: t(group.title) }),
      make(
        "dl",
        {},
        ...group.keys.map(([keys, words]) =>
          make("div", {}, make("dt", {}, ...keys.map((key) => make("kbd", { text: shown(key) }))), make("dd", { text: t(words) })),
        ),
      ),
    ),
  );
  const close = make("button", { type: "button", class: "quiet", text: t("help.close"), on: { click: () => dialog.close() } });
  dialog.replaceChildren(make("header", {}, make("h2", { text: t("help.title") }), close), make("div", { class: "columns" }, ...sections));
  dialog.showModal();
}

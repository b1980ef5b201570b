// The table of scans: worst first, as the server sorts it.

import * as api from "./api.js";
import { find, make, mark } from "./dom.js";
import { ml, number, problem, reasons, structure, t, time } from "./i18n.js";

const STATES = ["open", "accepted", "rejected", "corrected"];
const VERDICTS = ["fail", "warn", "pass"];
const filter = { text: "", states: new Set(), verdicts: new Set(), structure: "" };
let scans = [];
/** What could not be shown: English sentences, with codes. */
let problems = [];

export const order = () => shown().map((scan) => scan.id);

export async function load() {
  const told = await api.scans();
  scans = told.scans;
  problems = told.problems.map((message, at) => ({ message, code: told.problem_codes[at] }));
  draw();
}

/** Draw the table anew; the row that had the focus has it again. */
export function draw() {
  const held = document.activeElement?.closest("#rows tr")?.dataset.id;
  drawFilters();
  drawRows();
  find("#problems").replaceChildren(...problems.map((one) => make("li", problem(one))));
  if (held) focus(held);
}

/** Bring the focus to a scan, where it is in the table. */
export function focus(id) {
  find(`#rows tr[data-id="${id}"] a[data-row]`)?.focus();
}

function shown() {
  const text = filter.text.trim().toLowerCase();
  return scans.filter(
    (scan) =>
      (!text || searched(scan).toLowerCase().includes(text)) &&
      (!filter.states.size || filter.states.has(scan.state)) &&
      (!filter.verdicts.size || filter.verdicts.has(scan.verdict)),
  );
}

const searched = (scan) => [scan.name, ...reasons(scan).map((one) => one.text)].join(" ");

function drawFilters() {
  chips("#filter-state", STATES, filter.states, "state", (scan) => scan.state);
  chips("#filter-verdict", VERDICTS, filter.verdicts, "verdict", (scan) => scan.verdict);
  const names = [...new Set(scans.flatMap((scan) => scan.volumes.map((row) => row.name)))];
  if (!names.includes(filter.structure)) {
    filter.structure = names.find((name) => name.endsWith("Hippocampus")) ?? names[0] ?? "";
  }
  const options = names.map((name) =>
    make("option", { value: name, text: structure(name), selected: name === filter.structure }),
  );
  find("#volume-of").replaceChildren(...options);
}

function chips(place, values, chosen, prefix, of) {
  const toggle = (value) => {
    chosen.has(value) ? chosen.delete(value) : chosen.add(value);
    draw();
    find(`${place} [data-value="${value}"]`)?.focus();
  };
  const buttons = values.map((value) =>
    make(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(chosen.has(value)),
        data: { value },
        on: { click: () => toggle(value) },
      },
      prefix === "verdict" ? mark(value, "") : null,
      t(`${prefix}.${value}`),
      make("b", { text: scans.filter((scan) => of(scan) === value).length }),
    ),
  );
  find(place).replaceChildren(...buttons);
}

function drawRows() {
  const rows = shown();
  const volumes = rows.map((scan) => scan.volumes.find((row) => row.name === filter.structure));
  const largest = Math.max(1e-9, ...volumes.map((row) => row?.interval_high_ml ?? 0));
  find("#rows").replaceChildren(
    ...rows.map((scan, place) => row(scan, volumes[place], largest)),
  );
  find("#count").textContent = t("count", { shown: rows.length, all: scans.length });
  const empty = find("#empty");
  empty.hidden = rows.length > 0;
  empty.textContent = t("filter.empty");
}

function row(scan, volume, largest) {
  const address = `#/scan/${scan.id}`;
  const picture = make("img", {
    src: api.scanAddress(scan.id, "thumbnail.png"),
    alt: "",
    loading: "lazy",
    decoding: "async",
    on: { load: (event) => event.target.classList.add("there") },
  });
  const name = make("a", { class: "name", href: address, text: scan.name, data: { row: "" } });
  const why = reasons(scan).map((one) => make("li", one));
  return make(
    "tr",
    { data: { id: scan.id }, on: { click: () => (location.hash = address) } },
    make("td", { class: "picture" }, picture),
    make(
      "td",
      { class: "what" },
      make("div", { class: "line" }, mark(scan.verdict, t(`verdict.${scan.verdict}`)), name),
      why.length
        ? make("ul", { class: "reasons" }, ...why)
        : make("p", { class: "reasons", text: t("reasons.none") }),
    ),
    make("td", { class: "dice" }, make("b", { text: number(scan.expected_dice, 2) })),
    make("td", { class: "volume" }, ...interval(volume, largest)),
    make("td", { class: "state" }, ...state(scan)),
  );
}

/** A volume with its interval, on a scale that all rows share. */
function interval(volume, largest) {
  if (!volume) return ["–"];
  const share = (value) => `${(100 * value) / largest}%`;
  const bar = make("div", { class: "interval", "aria-hidden": "true" }, make("i"));
  bar.style.setProperty("--low", share(volume.interval_low_ml));
  bar.style.setProperty("--high", share(volume.interval_high_ml));
  bar.style.setProperty("--at", share(volume.volume_ml));
  const range = `${number(volume.interval_low_ml, 2)} – ${number(volume.interval_high_ml, 2)}`;
  return [make("b", { text: ml(volume.volume_ml) }), bar, make("small", { text: range })];
}

function state(scan) {
  const word = make("span", { class: `word ${scan.state}`, text: t(`state.${scan.state}`) });
  if (!scan.decision) return [word];
  const who = [scan.decision.reviewer, time(scan.decision.time)].filter(Boolean).join(", ");
  return [word, make("small", { text: who })];
}

/** Move the focus to the row `by` places further. */
export function step(by) {
  const links = [...document.querySelectorAll("#rows a[data-row]")];
  const here = links.indexOf(document.activeElement);
  const next = here < 0 ? (by > 0 ? 0 : links.length - 1) : here + by;
  links[Math.max(0, Math.min(links.length - 1, next))]?.focus();
}

export function begin() {
  find("#filter-text").addEventListener("input", (event) => {
    filter.text = event.target.value;
    drawRows();
  });
  find("#volume-of").addEventListener("change", (event) => {
    filter.structure = event.target.value;
    drawRows();
  });
}

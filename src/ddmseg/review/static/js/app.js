// The page: which of its two views is shown, and what the keys do.

import * as api from "./api.js";
import { find, make, say } from "./dom.js";
import { Drawing, editTable } from "./drawing.js";
import { sayError } from "./errors.js";
import * as words from "./i18n.js";
import * as keys from "./keys.js";
import { Panel } from "./panel.js";
import * as table from "./table.js";
import { Viewer, VIEWS } from "./viewer.js";

const { t } = words;
const TURN_DEGREES = 15;
const ZOOM = 1.15;
// of the width of the grey window, at one key
const WIDER = 1.15;
const BRIGHTER = 0.08;
let session;
let viewer;
let panel;
let drawing;
let detail = null;
let note = "";
let address = location.hash;

const inScan = () => !find("#scan-view").hidden && detail !== null;

async function begin() {
  await words.load();
  drawLanguage();
  find("#language").addEventListener("click", switchLanguage);
  find("#help-open").addEventListener("click", keys.openHelp);
  table.begin();
  keys.begin(keyGroups());
  session = await api.session();
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeunload", (event) => drawing?.dirty && event.preventDefault());
  await follow();
}

/** Show what the address names. */
async function follow() {
  if (location.hash === address && detail) return;
  if (drawing?.active && !drawing.stop()) {
    history.replaceState(null, "", address);
    return;
  }
  address = location.hash;
  const id = /^#\/scan\/([0-9a-f]+)$/.exec(address)?.[1];
  try {
    await (id ? showScan(id) : showTable());
  } catch (error) {
    busy("");
    sayError(error);
  }
}

async function showTable() {
  const left = detail?.id;
  detail = null;
  delete document.body.dataset.ready;
  find("#scan-view").hidden = true;
  find("#views").hidden = true;
  find("#table-view").hidden = false;
  find("#heading").replaceChildren();
  await table.load();
  if (left) table.focus(left);
}

async function showScan(id) {
  find("#table-view").hidden = true;
  find("#scan-view").hidden = false;
  delete document.body.dataset.ready;
  busy(t("loading"));
  if (!viewer) await makeViewer();
  if (!table.order().length) await table.load();
  note = "";
  const found = await api.scan(id);
  await viewer.open(found);
  detail = found;
  drawScan();
  panel.open(detail);
  viewer.nv.createOnLocationChange();
  busy("");
  document.body.dataset.ready = id;
  // what had the focus is hidden now
  if (document.activeElement === document.body) find("#canvas").focus({ preventScroll: true });
}

async function makeViewer() {
  viewer = new Viewer(find("#canvas"), readout);
  await viewer.begin(session.scales);
  panel = new Panel(viewer, session.scales);
  drawing = new Drawing(viewer, { saved: afterSaving, ended: afterDrawing });
  globalThis.review = { viewer, panel, drawing };
}

function busy(text) {
  const loading = find("#loading");
  loading.hidden = !text;
  loading.textContent = text;
}

function drawScan() {
  find("#heading").replaceChildren(make("span", { class: "name", text: detail.name }));
  const notice = find("#notice");
  notice.hidden = detail.has_scan;
  notice.textContent = t("scan.missing");
  drawViews();
  drawDecision();
}

function drawViews() {
  find("#views").hidden = false;
  const buttons = VIEWS.map((view, at) =>
    make(
      "button",
      {
        type: "button",
        class: "segment",
        "aria-pressed": String(view === viewer.view),
        data: { view },
        on: { click: () => setView(view) },
      },
      t(`view.${view}`),
      make("kbd", { text: at }),
    ),
  );
  const cut = make(
    "button",
    { type: "button", class: "segment", "aria-pressed": String(Boolean(viewer.cut)), id: "cut", on: { click: toggleCut } },
    t("view.cut"),
    make("kbd", { text: "K" }),
  );
  find("#views").replaceChildren(...buttons, cut);
}

function setView(view) {
  viewer.setView(view);
  drawViews();
}

function toggleCut() {
  viewer.setCut(!viewer.cut);
  drawViews();
}

function readout(place) {
  if (!detail) return;
  const row = detail.labels.find((label) => label.index === Math.round(place.labels ?? 0));
  const parts = [make("b", { text: row ? words.structure(row.name) : "–" })];
  const at = place.mm.map((mm) => mm.toFixed(1));
  parts.push(make("span", { text: `R ${at[0]}  A ${at[1]}  S ${at[2]} mm` }));
  for (const kind of ["discrepancy", "uncertainty"]) {
    if (place[kind] === undefined || !viewer.layers[kind].on) continue;
    parts.push(make("span", { text: `${t(`layer.${kind}`)} ${place[kind].toFixed(2)}` }));
  }
  find("#readout").replaceChildren(...parts);
}

// Decisions

function drawDecision() {
  const state = make("div", { class: "line" }, make("span", { class: `word ${detail.state}`, text: t(`state.${detail.state}`) }));
  if (detail.decision) {
    const who = [detail.decision.reviewer, words.time(detail.decision.time)].filter(Boolean).join(", ");
    state.append(make("small", { text: who }));
  }
  const parts = [state];
  if (detail.last_edit) parts.push(editTable(detail.last_edit));
  if (!drawing.active) parts.push(noteField(), decisionButtons());
  find("#decision").replaceChildren(...parts);
}

function noteField() {
  return make("input", {
    type: "text",
    id: "note",
    value: note,
    maxlength: session.max_note,
    autocomplete: "off",
    placeholder: t("decide.note"),
    "aria-label": t("decide.note"),
    on: { input: (event) => (note = event.target.value) },
  });
}

function decisionButtons() {
  const choices = [
    ["accept", "A", () => decide("accept")],
    ["correct", "C", correct],
    ["reject", "R", () => decide("reject")],
  ];
  const buttons = choices.map(([action, key, click]) =>
    make("button", { type: "button", class: action, id: action, on: { click } }, t(`decide.${action}`), make("kbd", { text: key })),
  );
  return make("div", { class: "buttons" }, ...buttons);
}

async function decide(action) {
  try {
    await api.decide(detail.id, { action, note, seen: detail.seen });
    note = "";
    await refresh();
    say(t(`decide.${action}ed`));
  } catch (error) {
    sayError(error);
  }
}

async function correct() {
  try {
    await drawing.start(detail);
    afterDrawing();
    find("#canvas").focus({ preventScroll: true });
  } catch (error) {
    sayError(error);
  }
}

function afterDrawing() {
  drawScan();
  panel.drawLayers();
}

async function afterSaving(entry) {
  await refresh();
  await viewer.setSource("corrected");
  panel.drawLayers();
  find("#decision .edit")?.setAttribute("open", "");
  say(t("draw.saved", { voxels: entry.edit.voxels_changed, volume: words.ml(entry.edit.ml_changed) }));
}

/** Fetch again what the server says of this scan, without loading its pictures. */
async function refresh() {
  const [found] = await Promise.all([api.scan(detail.id), table.load()]);
  Object.assign(detail, found);
  viewer.detail = detail;
  drawScan();
}

function otherScan(by) {
  const order = table.order();
  const here = order.indexOf(detail.id);
  const next = order[here + by];
  if (next) location.hash = `#/scan/${next}`;
  else say(t("scan.last"));
}

// Language

function drawLanguage() {
  const button = find("#language");
  button.textContent = words.other() === "zh" ? "中文" : "English";
  button.lang = words.other() === "zh" ? "zh-Hans" : "en";
}

async function switchLanguage() {
  await words.load(words.other());
  drawLanguage();
  // also while it is hidden: on the way back it is shown before the server has answered
  table.draw();
  if (inScan()) {
    drawScan();
    panel.draw();
    drawing.draw();
    viewer.nv.createOnLocationChange();
  }
}

// Keys

function keyGroups() {
  const viewing = () => inScan();
  return [
    { title: "keys.drawing", when: () => inScan() && drawing.active, keys: drawingKeys() },
    { title: "keys.volume", when: () => inScan() && viewer.view === "volume", keys: volumeKeys() },
    { title: "keys.viewer", when: viewing, keys: viewerKeys() },
    { title: "keys.decide", when: () => inScan() && !drawing.active, keys: decisionKeys() },
    { title: "keys.table", when: () => !inScan(), keys: tableKeys() },
    {
      title: "keys.everywhere",
      when: () => true,
      keys: [
        [["?"], "help.open", keys.openHelp],
        [["g"], "keys.language", switchLanguage],
      ],
    },
  ];
}

const drawingKeys = () => [
  [["b"], "draw.pen", () => drawing.setTool("pen")],
  [["f"], "draw.fill", () => drawing.setTool("fill")],
  [["e"], "draw.eraser", () => drawing.setTool("eraser")],
  [["x", "Space"], "keys.paint", () => drawing.paint()],
  [["z", "Ctrl+z"], "draw.undo", () => drawing.undo()],
  [["i"], "keys.pick", () => drawing.pick()],
  [["t", "Shift+ArrowDown"], "keys.label.next", () => drawing.stepLabel(1)],
  [["y", "Shift+ArrowUp"], "keys.label.before", () => drawing.stepLabel(-1)],
  [["+", "="], "keys.larger", () => drawing.stepSize(1)],
  [["-"], "keys.smaller", () => drawing.stepSize(-1)],
  [["Ctrl+s"], "draw.save", () => drawing.save()],
  [["Escape"], "draw.leave", () => drawing.stop()],
];

const volumeKeys = () => [
  [["ArrowLeft"], "keys.turn.left", () => viewer.turn(-TURN_DEGREES, 0)],
  [["ArrowRight"], "keys.turn.right", () => viewer.turn(TURN_DEGREES, 0)],
  [["ArrowUp"], "keys.turn.up", () => viewer.turn(0, TURN_DEGREES)],
  [["ArrowDown"], "keys.turn.down", () => viewer.turn(0, -TURN_DEGREES)],
  [["PageUp"], "keys.nearer", () => viewer.zoom(ZOOM)],
  [["PageDown"], "keys.farther", () => viewer.zoom(1 / ZOOM)],
];

const viewerKeys = () => [
  [["0"], "view.all", () => setView("all")],
  [["1"], "view.axial", () => setView("axial")],
  [["2"], "view.coronal", () => setView("coronal")],
  [["3"], "view.sagittal", () => setView("sagittal")],
  [["4"], "view.volume", () => setView("volume")],
  [["k"], "view.cut", toggleCut],
  [["ArrowLeft"], "keys.left", () => viewer.move(-1, 0, 0)],
  [["ArrowRight"], "keys.right", () => viewer.move(1, 0, 0)],
  [["ArrowUp"], "keys.up", () => viewer.move(0, 1, 0)],
  [["ArrowDown"], "keys.down", () => viewer.move(0, -1, 0)],
  [["PageUp"], "keys.slice.next", () => viewer.move(0, 0, 1)],
  [["PageDown"], "keys.slice.before", () => viewer.move(0, 0, -1)],
  [["w"], "keys.contrast.more", () => viewer.changeWindow(0, 1 / WIDER)],
  [["q"], "keys.contrast.less", () => viewer.changeWindow(0, WIDER)],
  [["j"], "keys.brighter", () => viewer.changeWindow(BRIGHTER, 1)],
  [["h"], "keys.darker", () => viewer.changeWindow(-BRIGHTER, 1)],
  [["v"], "keys.window.reset", () => viewer.resetWindow()],
  [["l"], "layer.labels", () => panel.toggle("labels")],
  [["d"], "layer.discrepancy", () => panel.toggle("discrepancy")],
  [["u"], "layer.uncertainty", () => panel.toggle("uncertainty")],
  [["o"], "keys.outline", () => panel.toggleOutline()],
  [["]"], "keys.opaque", () => panel.changeOpacity(0.1)],
  [["["], "keys.clear", () => panel.changeOpacity(-0.1)],
  [["n"], "keys.place.next", () => panel.stepPlace(1)],
  [["p"], "keys.place.before", () => panel.stepPlace(-1)],
  [["."], "keys.frame.next", () => drawing.active || panel.stepFrame(1)],
  [[","], "keys.frame.before", () => drawing.active || panel.stepFrame(-1)],
  [["Shift+ArrowRight"], "keys.scan.next", () => otherScan(1)],
  [["Shift+ArrowLeft"], "keys.scan.before", () => otherScan(-1)],
];

const decisionKeys = () => [
  [["a"], "decide.accept", () => decide("accept")],
  [["c"], "decide.correct", correct],
  [["r"], "decide.reject", () => decide("reject")],
  [["m"], "keys.note", () => find("#note").focus()],
  [["Escape"], "keys.back", () => (document.activeElement.id === "note" ? find("#canvas").focus() : (location.hash = "#/"))],
];

const tableKeys = () => [
  [["ArrowDown", "j"], "keys.row.next", () => table.step(1)],
  [["ArrowUp", "k"], "keys.row.before", () => table.step(-1)],
  [["/"], "filter.text", () => find("#filter-text").focus()],
];

begin().catch((error) => sayError(error));

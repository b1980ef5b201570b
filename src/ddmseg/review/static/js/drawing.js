// Correcting the labels: tools, the choice of a structure, saving.

import * as api from "./api.js";
import { find, make, say, swatch } from "./dom.js";
import { sayError } from "./errors.js";
import { ml, number, structure, t } from "./i18n.js";

const TOOLS = { pen: "B", fill: "F", eraser: "E" };
const SIZES = [1, 2, 3, 4, 5, 7, 9, 12, 15];

export class Drawing {
  constructor(viewer, { saved, ended }) {
    this.viewer = viewer;
    this.saved = saved;
    this.ended = ended;
    this.tool = "pen";
    this.size = 2;
    viewer.onDrawn = () => this.#count();
  }

  get active() {
    return this.viewer.drawing;
  }

  get dirty() {
    return this.active && this.viewer.changed() > 0;
  }

  /** Begin with the labels that count: the corrected ones where there are any. */
  async start(detail) {
    if (!detail.drawable) return say(t("draw.impossible"), "error");
    this.detail = detail;
    const wanted = detail.has_correction ? "corrected" : "labels";
    if (this.viewer.source.kind !== wanted) await this.viewer.setSource(wanted);
    this.viewer.setOnly(null);
    this.viewer.start();
    if (!detail.labels.some((row) => row.index === this.label)) this.label = detail.labels[0]?.index;
    this.draw();
    this.#use();
  }

  /** Leave; asks first when something would be lost. */
  stop() {
    if (this.dirty && !confirm(t("draw.lose"))) return false;
    this.viewer.stop();
    this.draw();
    this.ended();
    return true;
  }

  draw() {
    const place = find("#drawing");
    place.hidden = !this.active;
    find("#lists").hidden = this.active;
    if (!this.active) return place.replaceChildren();
    place.replaceChildren(this.#head(), this.#tools(), this.#sizes(), this.#labels(), this.#foot());
    this.#count();
  }

  #head() {
    return make("div", { class: "line" }, make("h2", { text: t("draw.title") }), make("output", { id: "changed" }));
  }

  #tools() {
    const buttons = Object.entries(TOOLS).map(([tool, key]) =>
      make(
        "button",
        {
          type: "button",
          class: "segment",
          "aria-pressed": String(tool === this.tool),
          data: { tool },
          on: { click: () => this.setTool(tool) },
        },
        t(`draw.${tool}`),
        make("kbd", { text: key }),
      ),
    );
    const undo = make("button", { type: "button", class: "segment", id: "undo", on: { click: () => this.undo() } }, t("draw.undo"), make("kbd", { text: "Z" }));
    return make("div", { class: "segments tools" }, ...buttons, undo);
  }

  #sizes() {
    const words = make("output", { text: t("draw.size", { size: SIZES[this.size] }) });
    const slider = make("input", {
      type: "range",
      id: "size",
      min: 0,
      max: SIZES.length - 1,
      step: 1,
      value: this.size,
      "aria-label": t("draw.size.slider"),
      on: {
        input: (event) => {
          this.size = Number(event.target.value);
          words.textContent = t("draw.size", { size: SIZES[this.size] });
          this.#use();
        },
      },
    });
    return make("div", { class: "frames" }, slider, words);
  }

  #labels() {
    const choices = this.detail.labels.map((row) =>
      make(
        "button",
        {
          type: "button",
          class: "entry short",
          role: "radio",
          "aria-checked": String(row.index === this.label),
          data: { label: row.index },
          on: { click: () => this.setLabel(row.index) },
        },
        swatch(row.colour),
        make("span", { class: "name", text: structure(row.name) }),
      ),
    );
    return make("div", { class: "list labels", role: "radiogroup", id: "labels", "aria-label": t("draw.label") }, ...choices);
  }

  #foot() {
    const save = make("button", { type: "button", class: "strong", id: "save", on: { click: () => this.save() } }, t("draw.save"), make("kbd", { text: "Ctrl S" }));
    const leave = make("button", { type: "button", class: "quiet", id: "leave", text: t("draw.leave"), on: { click: () => this.stop() } });
    return make("div", { class: "buttons" }, save, leave);
  }

  #count() {
    const output = find("#changed");
    if (!output || !this.active) return;
    const voxels = this.viewer.changed();
    output.textContent = t("draw.changed", { voxels, volume: ml(voxels * this.detail.voxel_ml) });
    find("#undo").disabled = !this.viewer.undoable;
    find("#save").disabled = !voxels;
  }

  #use() {
    const value = this.tool === "eraser" ? 0 : this.label;
    this.viewer.setPen(value, this.tool === "fill", SIZES[this.size]);
  }

  setTool(tool) {
    this.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.#use();
  }

  setLabel(index) {
    this.label = index;
    if (this.tool === "eraser") this.setTool("pen");
    for (const button of document.querySelectorAll("[data-label]")) {
      const chosen = Number(button.dataset.label) === index;
      button.setAttribute("aria-checked", String(chosen));
      if (chosen) button.scrollIntoView({ block: "nearest" });
    }
    this.#use();
  }

  /** Take the label under the crosshair. */
  pick() {
    const index = this.viewer.underCrosshair();
    if (index) this.setLabel(index);
    else this.setTool("eraser");
  }

  stepLabel(by) {
    const rows = this.detail.labels;
    const here = rows.findIndex((row) => row.index === this.label);
    this.setLabel(rows[(here + by + rows.length) % rows.length].index);
  }

  stepSize(by) {
    this.size = Math.min(SIZES.length - 1, Math.max(0, this.size + by));
    const slider = find("#size");
    slider.value = this.size;
    slider.dispatchEvent(new Event("input"));
  }

  paint() {
    if (this.tool !== "fill") this.viewer.paint();
    else if (!this.viewer.fillPiece()) say(t("draw.nothing"));
  }

  undo() {
    if (!this.viewer.undo()) say(t("draw.first"));
  }

  async save() {
    if (!this.dirty) return say(t("draw.same"));
    find("#save").disabled = true;
    try {
      const entry = await api.correct(this.detail.id, await this.viewer.file(), this.detail.seen);
      this.viewer.stop();
      this.draw();
      await this.saved(entry);
    } catch (error) {
      sayError(error);
      this.#count();
    }
  }
}

/** What a correction changed, as a table. */
export function editTable(edit) {
  const rows = edit.structures.map((one) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", text: structure(one.name) }),
      make("td", { text: `+${one.added_voxels} −${one.removed_voxels}` }),
      make("td", { text: number(one.dice, 3) }),
      make("td", { text: number(one.mean_surface_distance_mm, 2) }),
    ),
  );
  const heads = ["structure", "voxels", "dice", "surface"].map((key) => make("th", { scope: "col", text: t(`edit.${key}`) }));
  return make(
    "details",
    { class: "edit" },
    make("summary", { text: t("edit.summary", { voxels: edit.voxels_changed, volume: ml(edit.ml_changed) }) }),
    make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)),
  );
}

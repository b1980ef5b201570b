// The side of the viewer: what was found, the layers, the lists.

import * as api from "./api.js";
import { find, make, mark, say, swatch } from "./dom.js";
import { sayError } from "./errors.js";
import { ml, number, reasons, structure, t } from "./i18n.js";

const MAPS = ["discrepancy", "uncertainty"];

export class Panel {
  /** @param viewer the canvas @param {() => object} detail gives the scan that is shown */
  constructor(viewer, scales) {
    this.viewer = viewer;
    this.scales = scales;
    this.tab = "places";
    this.kind = "discrepancy";
    this.chosen = -1;
    this.framePlace = { samples: 0, steps: 0 };
  }

  open(detail) {
    this.detail = detail;
    this.places = {};
    this.chosen = -1;
    this.framePlace = { samples: 0, steps: Math.max(0, detail.frames.steps - 1) };
    this.draw();
    if (this.tab === "places") this.loadPlaces();
  }

  draw() {
    this.#drawFinding();
    this.drawLayers();
    this.drawList();
  }

  #drawFinding() {
    const { detail } = this;
    const why = reasons(detail).map((one) => make("li", one));
    find("#finding").replaceChildren(
      make(
        "div",
        { class: "line" },
        mark(detail.verdict, t(`verdict.${detail.verdict}`)),
        make("span", { class: "word", text: t(`verdict.${detail.verdict}`) }),
        make("span", { class: "big", text: number(detail.expected_dice, 2) }),
        make("small", { text: t("column.dice") }),
      ),
      why.length ? make("ul", { class: "reasons" }, ...why) : make("p", { class: "reasons", text: t("reasons.none") }),
    );
  }

  // Layers

  /** Draw the layers anew; what had the focus has it again. */
  drawLayers() {
    const held = document.activeElement?.closest("#layers [data-keep]")?.dataset.keep;
    const rows = [this.#layer("labels")];
    if (!this.viewer.drawing) rows.push(this.#sources());
    for (const kind of MAPS) if (this.detail.maps.includes(kind)) rows.push(this.#layer(kind));
    find("#layers").replaceChildren(...rows);
    if (held) find(`#layers [data-keep="${held}"]`)?.focus({ preventScroll: true });
  }

  #layer(kind) {
    const layer = this.viewer.layers[kind];
    const name = t(`layer.${kind}`);
    const toggle = make("button", {
      type: "button",
      class: "switch",
      role: "switch",
      "aria-checked": String(layer.on),
      data: { layer: kind, keep: kind },
      on: { click: () => this.toggle(kind) },
    }, make("i", { "aria-hidden": "true" }), make("span", { text: name }), make("kbd", { text: kind[0].toUpperCase() }));
    const slider = make("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value: layer.opacity,
      "aria-label": t("layer.opacity", { name }),
      data: { keep: `opacity-${kind}` },
      on: { input: (event) => this.viewer.setLayer(kind, { opacity: Number(event.target.value) }) },
    });
    const extra = kind === "labels" ? this.#outlineButton() : this.#scale(kind);
    return make("div", { class: `layer ${layer.on ? "on" : ""}` }, toggle, extra, slider);
  }

  #outlineButton() {
    const { outline } = this.viewer;
    return make("button", {
      type: "button",
      class: "quiet small",
      id: "outline",
      data: { keep: "outline" },
      text: t(outline ? "layer.outline" : "layer.fill"),
      on: { click: () => this.toggleOutline() },
    });
  }

  toggleOutline() {
    this.viewer.setOutline(!this.viewer.outline);
    this.drawLayers();
  }

  #scale(kind) {
    const top = this.viewer.top(kind);
    const { R, G, B } = this.scales[kind === "uncertainty" ? "ember" : "glacier"];
    const stops = [0, 64, 128, 192, 255].map((at) => `rgb(${R[at]} ${G[at]} ${B[at]})`);
    const bar = make("i", { class: "ramp", "aria-hidden": "true" });
    bar.style.setProperty("background", `linear-gradient(90deg, ${stops.join(",")})`);
    return make("span", { class: "scale" }, "0", bar, top === null ? "" : String(Number(top.toPrecision(2))));
  }

  async toggle(kind) {
    try {
      await this.viewer.setLayer(kind, { on: !this.viewer.layers[kind].on });
    } catch (error) {
      sayError(error);
    }
    this.drawLayers();
  }

  async changeOpacity(by) {
    const shown = Object.keys(this.viewer.layers).filter((kind) => this.viewer.layers[kind].on);
    const kind = shown.at(-1);
    if (!kind) return;
    const opacity = Math.min(1, Math.max(0, this.viewer.layers[kind].opacity + by));
    await this.viewer.setLayer(kind, { opacity });
    this.drawLayers();
  }

  #sources() {
    const { frames, has_correction: corrected } = this.detail;
    const { kind } = this.viewer.source;
    const kinds = ["labels", ...(corrected ? ["corrected"] : []), ...["samples", "steps"].filter((one) => frames[one])];
    if (kinds.length === 1) return make("p", { class: "hint", text: t("source.trace") });
    const buttons = kinds.map((one) =>
      make("button", {
        type: "button",
        class: "segment",
        "aria-pressed": String(one === kind),
        data: { source: one, keep: one },
        text: t(`source.${one}`),
        on: { click: () => this.setSource(one) },
      }),
    );
    const group = make("div", { class: "segments", role: "group", "aria-label": t("source") }, ...buttons);
    const parts = [group];
    if (frames[kind]) parts.push(this.#frameSlider(kind));
    if (!frames.steps) parts.push(make("p", { class: "hint", text: t("source.trace") }));
    return make("div", { class: "sources" }, ...parts);
  }

  #frameSlider(kind) {
    const count = this.detail.frames[kind];
    const place = this.framePlace[kind];
    const words = make("output", { text: t(`source.${kind}.place`, { place: place + 1, count }) });
    const slider = make("input", {
      type: "range",
      id: "frame",
      data: { keep: "frame" },
      min: 0,
      max: count - 1,
      step: 1,
      value: place,
      "aria-label": t(`source.${kind}.slider`),
      on: {
        input: (event) => {
          this.framePlace[kind] = Number(event.target.value);
          words.textContent = t(`source.${kind}.place`, { place: this.framePlace[kind] + 1, count });
          this.#show(kind, this.framePlace[kind]);
        },
      },
    });
    return make("div", { class: "frames" }, slider, words);
  }

  async setSource(kind) {
    await this.#show(kind, this.framePlace[kind] ?? 0);
    this.drawLayers();
  }

  async stepFrame(by) {
    const { frames } = this.detail;
    let { kind } = this.viewer.source;
    if (!frames[kind]) kind = frames.steps ? "steps" : "samples";
    if (!frames[kind]) return say(t("source.trace"));
    const wanted = this.framePlace[kind] + (this.viewer.source.kind === kind ? by : 0);
    this.framePlace[kind] = Math.min(frames[kind] - 1, Math.max(0, wanted));
    await this.#show(kind, this.framePlace[kind]);
    this.drawLayers();
  }

  async #show(kind, place) {
    try {
      await this.viewer.setSource(kind, place);
    } catch (error) {
      sayError(error);
    }
  }

  // Lists

  drawList() {
    const tabs = ["places", "volumes"].map((name) =>
      make("button", {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-selected": String(name === this.tab),
        "aria-controls": "list",
        text: t(`tab.${name}`),
        on: { click: () => this.setTab(name) },
      }),
    );
    const kinds = MAPS.filter((kind) => this.detail.maps.includes(kind)).map((kind) =>
      make("option", { value: kind, text: t(`places.${kind}`), selected: kind === this.kind }),
    );
    const by = make("select", {
      class: "by",
      id: "places-by",
      "aria-label": t("places.by"),
      on: { change: (event) => this.setKind(event.target.value) },
    }, ...kinds);
    find("#tabs").replaceChildren(...tabs, ...(this.tab === "places" ? [by] : []));
    find("#list").setAttribute("aria-labelledby", `tab-${this.tab}`);
    find("#list").replaceChildren(...(this.tab === "places" ? this.#placeRows() : this.#volumeRows()));
  }

  setTab(name) {
    this.tab = name;
    this.drawList();
    find(`#tab-${name}`).focus({ preventScroll: true });
    if (name === "places") this.loadPlaces();
  }

  setKind(kind) {
    this.kind = kind;
    this.chosen = -1;
    this.drawList();
    find("#places-by").focus({ preventScroll: true });
    this.loadPlaces();
  }

  async loadPlaces() {
    const { kind, detail } = this;
    if (this.places[kind] || !detail.maps.includes(kind)) return;
    try {
      const found = await api.places(detail.id, kind);
      if (detail !== this.detail) return;
      this.places[kind] = found;
    } catch (error) {
      sayError(error);
      return;
    }
    this.drawList();
  }

  #placeRows() {
    const places = this.places[this.kind];
    if (!places) return [make("p", { class: "empty", role: "status", text: t("places.loading") })];
    if (!places.length) return [make("p", { class: "empty", text: t("places.none") })];
    const names = new Map(this.detail.labels.map((row) => [row.index, row]));
    return places.map((place, at) => {
      const row = names.get(place.index || place.beside);
      const name = row ? structure(row.name) : t("places.nowhere");
      return make(
        "button",
        {
          type: "button",
          class: "entry",
          "aria-current": at === this.chosen ? "true" : null,
          data: { place: at },
          on: { click: () => this.goToPlace(at) },
        },
        swatch(place.index ? row?.colour : "transparent"),
        make("span", { class: "name", text: place.index ? name : t("places.beside", { name }) }),
        make("b", { text: ml(place.expected_error_ml) }),
        make("small", { text: place.position_mm.map((mm) => mm.toFixed(0)).join(", ") }),
        make("small", { text: t("places.of", { volume: ml(place.volume_ml) }) }),
      );
    });
  }

  goToPlace(at) {
    const places = this.places[this.kind] ?? [];
    if (!places[at]) return;
    this.chosen = at;
    this.viewer.goTo(places[at].position_mm);
    this.#mark(`[data-place="${at}"]`);
  }

  stepPlace(by) {
    const count = (this.places[this.kind] ?? []).length;
    if (!count) return;
    if (this.tab !== "places") this.setTab("places");
    this.goToPlace(this.chosen < 0 ? (by > 0 ? 0 : count - 1) : (this.chosen + by + count) % count);
  }

  #mark(selector) {
    for (const entry of document.querySelectorAll("#list .entry")) entry.removeAttribute("aria-current");
    const entry = find(selector);
    entry?.setAttribute("aria-current", "true");
    entry?.scrollIntoView({ block: "nearest" });
  }

  #volumeRows() {
    const colours = new Map(this.detail.labels.map((row) => [row.index, row.colour]));
    return this.detail.volumes.map((row) =>
      make(
        "button",
        {
          type: "button",
          class: "entry",
          "aria-current": this.viewer.only === row.index ? "true" : null,
          data: { structure: row.index },
          on: { click: () => this.#isolate(row.index) },
        },
        swatch(colours.get(row.index)),
        make("span", { class: "name", text: structure(row.name) }),
        make("b", { text: ml(row.volume_ml) }),
        make("small", { text: t("volumes.dice", { dice: number(row.expected_dice, 2) }) }),
        make("small", { text: `${number(row.interval_low_ml, 2)} – ${number(row.interval_high_ml, 2)}` }),
      ),
    );
  }

  /** Show one structure alone and go to its middle; a second time shows all again. */
  #isolate(index) {
    const only = this.viewer.only === index ? null : index;
    this.viewer.setOnly(only);
    const middle = only === null ? null : this.viewer.middleOf(index);
    if (middle) this.viewer.goTo(middle);
    if (only === null) this.#mark("none");
    else this.#mark(`[data-structure="${index}"]`);
  }
}

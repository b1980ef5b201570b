// The canvas: NiiVue with the scan, its labels and its maps, always in the same places.

import * as api from "./api.js";

const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, MULTIPLANAR_TYPE, DRAG_MODE } = globalThis.niivue;

export const VIEWS = ["all", "axial", "coronal", "sagittal", "volume"];
const SLICES = {
  all: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  volume: SLICE_TYPE.RENDER,
};
const PLANES = { axial: 0, coronal: 1, sagittal: 2 };
const SCALES = { uncertainty: "ember", discrepancy: "glacier" };
const HEADER_BYTES = 352;
const UNDO_STEPS = 32;
// inside of an outline a breath of colour stays, so that one sees which side is which
const INSIDE = 0.25;
// NiiVue leaves out a layer of no opacity, its outlines too
const FAINTEST = 0.004;
// depth 2 is outside of the head: nothing is cut
const WHOLE = [2, 0, 0];
const CUT = [0, 145, 25];
// size of the head in 3-D, as a multiple of what fits
const SMALLEST = 0.5;
const LARGEST = 3;

export class Viewer {
  /** @param {HTMLCanvasElement} canvas @param {(place: object) => void} onMove */
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.onMove = onMove;
    this.view = "all";
    this.plane = "axial";
    this.layers = {
      labels: { on: true, opacity: 0.6 },
      uncertainty: { on: false, opacity: 0.7 },
      discrepancy: { on: false, opacity: 0.7 },
    };
    this.outline = true;
    this.only = null;
    this.drawing = false;
    this.undoable = 0;
    this.onDrawn = () => {};
  }

  async begin(scales) {
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.36, 0.5, 0.6, 1],
      crosshairWidth: 0.35,
      crosshairWidthUnit: "mm",
      crosshairGap: 6,
      fontColor: [0.5, 0.55, 0.6, 1],
      fontMinPx: 13,
      fontSizeScaling: 0.2,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarPadPixels: 3,
      clipPlaneColor: [0, 0, 0, 0],
      dragMode: DRAG_MODE.contrast,
      dragAndDropEnabled: false,
      isColorbar: false,
      isOrientCube: false,
      loadingText: "",
      logLevel: "error",
      maxDrawUndoBitmaps: UNDO_STEPS,
      penSize: 3,
    });
    await this.nv.attachToCanvas(this.canvas);
    for (const [name, scale] of Object.entries(scales)) this.nv.addColormap(name, scale);
    this.nv.onLocationChange = (place) => this.#moved(place);
    this.nv.onDrawingChanged = (action) => this.#drawn(action);
    this.canvas.addEventListener("pointerdown", (event) => this.#touched(event), true);
  }

  /** Show another scan; the crosshair goes to its middle. */
  async open(detail) {
    this.stop();
    this.only = null;
    const source = { kind: detail.has_correction ? "corrected" : "labels", place: 0 };
    const [scan, labels] = await Promise.all([
      this.#fetch(detail.id, "scan", { colormap: "gray" }),
      this.#fetch(detail.id, source.kind, {}),
    ]);
    Object.assign(this, { detail, source });
    this.shown = { labels };
    this.window = [scan.cal_min, scan.cal_max];
    labels.opacity = this.#opacity("labels");
    this.#colourLabels();
    const { nv } = this;
    nv.volumes = [];
    // a plane is drawn sooner than the head in 3-D, and each volume is drawn when it is added
    nv.opts.sliceType = SLICE_TYPE.AXIAL;
    nv.opts.atlasOutline = this.#border();
    nv.addVolume(scan);
    nv.addVolume(labels);
    nv.scene.crosshairPos = [0.5, 0.5, 0.5];
    for (const kind of Object.keys(SCALES)) if (this.layers[kind].on) await this.#addMap(kind);
    this.setView(this.view);
    nv.createOnLocationChange();
  }

  async #fetch(id, kind, options) {
    const name = `${kind}.nii`;
    // NiiVue would ask twice: for the header alone, and then for everything
    const url = await api.voxels(api.scanAddress(id, name));
    return NVImage.loadFromUrl({ url, name, ...options });
  }

  /** Switch a layer or change its opacity; maps are fetched when they are first seen. */
  async setLayer(kind, change) {
    const layer = Object.assign(this.layers[kind], change);
    if (kind !== "labels" && layer.on) await this.#addMap(kind);
    if (kind !== "labels" && !layer.on) this.#removeMap(kind);
    for (const one of ["labels", kind]) this.#applyOpacity(one);
    this.nv.createOnLocationChange();
  }

  async #addMap(kind) {
    const { nv, detail } = this;
    if (!detail.maps.includes(kind)) return;
    const map = this.shown[kind] ?? (await this.#fetch(detail.id, kind, { colormap: SCALES[kind] }));
    if (detail.id !== this.detail.id || !this.layers[kind].on || nv.volumes.includes(map)) return;
    this.shown[kind] = map;
    map.opacity = this.#opacity(kind);
    // below the labels, whose outlines stay on top
    nv.volumes.push(map);
    nv.setVolume(map, 1);
  }

  /** Take a map away; one that is merely clear would still tint the head in 3-D. */
  #removeMap(kind) {
    if (this.nv.volumes.includes(this.shown[kind])) this.nv.removeVolume(this.shown[kind]);
  }

  #visible(kind) {
    return this.layers[kind].on && !(kind === "labels" && this.drawing);
  }

  #outlined() {
    // NiiVue draws the borders of hidden structures too, so one alone is filled; and in 3-D
    // outlines are no more than grains
    return this.outline && this.only === null && this.view !== "volume";
  }

  #opacity(kind) {
    if (!this.#visible(kind)) return 0;
    const { opacity } = this.layers[kind];
    if (kind !== "labels" || !this.#outlined()) return opacity;
    // a tint would be mistaken for a colour of the map
    const mapped = Object.keys(SCALES).some((map) => this.layers[map].on);
    return mapped ? FAINTEST : INSIDE * opacity;
  }

  /** Opacity of the outlines, which NiiVue draws whatever that of the labels is. */
  #border() {
    return this.#visible("labels") && this.#outlined() ? this.layers.labels.opacity : 0;
  }

  /** Bring the opacity on the screen; true when that drew it anew. */
  #applyOpacity(kind) {
    const { nv } = this;
    const volume = this.shown[kind];
    if (!nv.volumes.includes(volume)) return false;
    const { on, opacity } = this.layers[kind];
    if (kind === "labels" && this.drawing) nv.setDrawOpacity(on ? opacity : 0);
    const same = volume.opacity === this.#opacity(kind) && nv.opts.atlasOutline === this.#border();
    if (same) return false;
    volume.opacity = this.#opacity(kind);
    nv.opts.atlasOutline = this.#border();
    nv.updateGLVolume();
    return true;
  }

  top(kind) {
    return this.shown[kind]?.cal_max ?? null;
  }

  #colours() {
    const rows = this.detail.labels;
    const channel = (at) => [0, ...rows.map((row) => parseInt(row.colour.slice(at, at + 2), 16))];
    const seen = (row) => (this.only === null || this.only === row.index ? 255 : 0);
    return {
      R: channel(1),
      G: channel(3),
      B: channel(5),
      A: [0, ...rows.map(seen)],
      I: [0, ...rows.map((row) => row.index)],
      labels: ["", ...rows.map((row) => row.name)],
    };
  }

  #colourLabels() {
    this.shown.labels.setColormapLabel(this.#colours());
  }

  /** Show one structure alone, or all of them again with null. */
  setOnly(index) {
    if (this.only === index) return;
    this.only = index;
    this.#colourLabels();
    this.shown.labels.opacity = this.#opacity("labels");
    this.nv.opts.atlasOutline = this.#border();
    this.nv.updateGLVolume();
  }

  setOutline(outline) {
    this.outline = outline;
    this.#applyOpacity("labels");
  }

  setView(view) {
    this.view = view;
    if (view in PLANES) this.plane = view;
    this.nv.opts.sliceType = SLICES[view];
    if (!this.#applyOpacity("labels")) this.nv.drawScene();
  }

  /** Look into the head in 3-D, or at its surface. */
  setCut(cut) {
    this.cut = cut;
    this.nv.setClipPlane(cut ? CUT : WHOLE);
  }

  /** Turn the head in 3-D by degrees: its front to the right, its top to the viewer. */
  turn(right, up) {
    const { renderAzimuth, renderElevation } = this.nv.scene;
    const elevation = Math.max(-90, Math.min(90, renderElevation + up));
    this.nv.setRenderAzimuthElevation((renderAzimuth + right + 360) % 360, elevation);
  }

  /** Show the head in 3-D so many times as large. */
  zoom(times) {
    const scale = this.nv.scene.volScaleMultiplier * times;
    this.nv.setScale(Math.max(SMALLEST, Math.min(LARGEST, scale)));
  }

  /** Change the grey window: brighter by a share of its width, and so many times as wide. */
  changeWindow(brighter, times) {
    const [scan] = this.nv.volumes;
    const width = scan.cal_max - scan.cal_min;
    const middle = (scan.cal_min + scan.cal_max) / 2 - brighter * width;
    const narrowest = (this.window[1] - this.window[0]) / 64;
    const half = Math.max(narrowest, width * times) / 2;
    this.#setWindow(middle - half, middle + half);
  }

  /** The grey window as the scan came with it. */
  resetWindow() {
    this.#setWindow(...this.window);
  }

  #setWindow(low, high) {
    const [scan] = this.nv.volumes;
    scan.cal_min = low;
    scan.cal_max = high;
    this.nv.updateGLVolume();
  }

  /** Show the labels of the model, the corrected ones, or those of one sample or step. */
  async setSource(kind, place = 0) {
    this.fetching?.abort();
    this.fetching = new AbortController();
    const id = this.detail.id;
    const framed = kind === "samples" || kind === "steps";
    const address = api.scanAddress(id, framed ? `${kind}/${place}.nii` : `${kind}.nii`);
    let buffer;
    try {
      buffer = await api.voxels(address, this.fetching.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error;
    }
    if (this.detail.id !== id) return;
    const Kind = this.shown.labels.img.constructor;
    this.shown.labels.img = new Kind(buffer.slice(HEADER_BYTES));
    this.source = { kind, place };
    this.nv.updateGLVolume();
    this.nv.createOnLocationChange();
  }

  goTo(position) {
    // by the true affine: NiiVue's default takes an oblique scan for an upright one
    this.nv.scene.crosshairPos = this.nv.mm2frac(position, 0, true);
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  /** Move the crosshair in the plane that is in use: right and up as on the screen. */
  move(right, up, through) {
    // radiological convention: the patient's left is on the right, the face looks left
    const step = {
      axial: [-right, up, through],
      coronal: [-right, through, up],
      sagittal: [through, -right, up],
    }[this.plane];
    this.nv.moveCrosshairInVox(...step);
  }

  /** The middle of a structure in mm, or null when these labels do not hold it. */
  middleOf(index) {
    const { img, hdr } = this.shown.labels;
    const [, columns, rows] = hdr.dims;
    const sum = [0, 0, 0];
    let count = 0;
    for (let at = 0; at < img.length; at += 1) {
      if (img[at] !== index) continue;
      sum[0] += at % columns;
      sum[1] += Math.floor(at / columns) % rows;
      sum[2] += Math.floor(at / (columns * rows));
      count += 1;
    }
    if (!count) return null;
    const middle = sum.map((value) => value / count);
    return hdr.affine.slice(0, 3).map((row) => row[0] * middle[0] + row[1] * middle[1] + row[2] * middle[2] + row[3]);
  }

  #moved(place) {
    const values = {};
    for (const [kind, volume] of Object.entries(this.shown ?? {})) {
      const at = this.nv.volumes.indexOf(volume);
      values[kind] = place.values?.[at]?.value;
    }
    if (this.drawing) values.labels = this.underCrosshair();
    this.onMove({ mm: [...place.mm].slice(0, 3), ...values });
  }

  #touched(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const tile = this.nv.tileIndex((event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
    const plane = this.nv.screenSlices[tile]?.axCorSag;
    const name = Object.keys(PLANES).find((key) => PLANES[key] === plane);
    if (name) this.plane = name;
  }

  // Drawing

  /** Begin a correction of the labels that are shown. */
  start() {
    if (!this.nv.loadDrawing(this.shown.labels)) {
      const code = { code: "drawing_misfit", values: {} };
      throw Object.assign(new Error("the labels do not fit the scan"), { code });
    }
    this.drawing = true;
    this.base = this.nv.drawBitmap.slice();
    this.undoable = 0;
    this.nv.setDrawingEnabled(true);
    this.shown.labels.opacity = 0;
    this.nv.opts.atlasOutline = 0;
    this.nv.setDrawOpacity(this.layers.labels.on ? this.layers.labels.opacity : 0);
    this.nv.setDrawColormap(this.#colours());
  }

  /** End a correction; what was drawn is gone. */
  stop() {
    if (!this.drawing) return;
    this.drawing = false;
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
    this.base = null;
    this.#applyOpacity("labels");
  }

  setPen(value, filled, size) {
    this.nv.opts.penSize = size;
    this.nv.setPenValue(value, filled);
  }

  #drawn(action) {
    if (action === "draw") this.undoable = Math.min(this.undoable + 1, UNDO_STEPS - 2);
    if (action === "draw" || action === "undo") this.onDrawn();
  }

  undo() {
    if (!this.undoable) return false;
    this.undoable -= 1;
    this.nv.drawUndo();
    return true;
  }

  /** Paint at the crosshair with the pen, in the plane that is in use. */
  paint() {
    this.nv.drawPenAxCorSag = PLANES[this.plane];
    this.nv.drawPt(...this.#voxel(), this.nv.opts.penValue);
    this.nv.drawPenAxCorSag = -1;
    this.#keep();
  }

  /** Give the piece under the crosshair the pen's label; false on the background. */
  fillPiece() {
    const here = this.underCrosshair();
    if (!here || here === this.nv.opts.penValue) return false;
    this.nv.drawFloodFill(this.#voxel(), this.nv.opts.penValue);
    this.#drawn("draw");
    return true;
  }

  #keep() {
    this.nv.drawAddUndoBitmap();
    this.nv.refreshDrawing(true);
    this.#drawn("draw");
  }

  #voxel() {
    return Array.from(this.nv.frac2vox(this.nv.scene.crosshairPos), Math.round);
  }

  underCrosshair() {
    const [i, j, k] = this.#voxel();
    const [, columns, rows] = this.nv.back.dimsRAS;
    return this.nv.drawBitmap[i + columns * (j + rows * k)];
  }

  /** Voxels that differ from the labels the correction began with. */
  changed() {
    const now = this.nv.drawBitmap;
    let count = 0;
    for (let at = 0; at < now.length; at += 1) if (now[at] !== this.base[at]) count += 1;
    return count;
  }

  /** The drawing as a NIfTI file on the grid of the scan. */
  async file() {
    return this.nv.saveImage({ filename: "", isSaveDrawing: true, volumeByIndex: 0 });
  }
}

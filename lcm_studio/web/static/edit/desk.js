// The Edit tab's one canvas: the picture with what is painted over it, and the result in its place.
import { h, registry, say, url } from "../registry.js";
import { Bar } from "./bar.js";
import { History } from "./history.js";
import { forget, keep, kept } from "./keep.js";
import { INK, Layers } from "./layers.js";
import { Pens } from "./pens.js";
import { Result } from "./result.js";
import { live } from "./sketch.js";
import { View } from "./view.js";

const PATIENCE = 15000; // that a result waits for the picture it was made of, after a reload
const GAP = 0.04; // between two pictures side by side, of the first one's width

class Desk {
  constructor(tab, root) {
    this.tab = tab;
    this.tool = "inpaint";
    this.masks = true;
    this.look_ = "picture";
    this.layers = new Layers(tab);
    this.pens = new Pens(this);
    this.result = new Result(this.layers);
    this.history = new History(() => this.bar.steps(this.history));
    this.paper = h("div", { className: "lcm-paper" }, ...this.layers.all);
    this.stack = h("div", { className: "lcm-stack" }, this.paper, this.result.node);
    this.ring = h("div", { className: "lcm-ring", hidden: true });
    this.empty = h("div", { className: "lcm-blank-canvas" }, h("p", {}, "Open a picture, paste one, drop one anywhere on the page, or take an example above."), h("p", { className: "lcm-soft" }, "Then choose a tool and paint over what should change."));
    this.box = h("div", { className: "lcm-view", role: "application", tabIndex: 0, ariaLabel: "Canvas: empty", "data-empty": "1" }, this.empty, this.stack, this.ring);
    this.view = new View(this.box, this.stack);
    this.bar = new Bar(this);
    this.hint = h("p", { className: "lcm-soft lcm-canvas-hint" }, "Wheel: zoom. Space and drag, or two fingers: move. [ ]: brush size. Ctrl+Z: undo.");
    root.replaceChildren(this.bar.node, this.box, this.hint);
    this.bar.steps(this.history);
    this.listen();
    this.follow();
  }

  listen() {
    for (const [name, fn] of [["pointerdown", "down"], ["pointermove", "move"], ["pointerup", "up"], ["pointercancel", "up"], ["pointerleave", "away"]]) {
      this.box.addEventListener(name, (event) => this[fn](event));
    }
    this.box.addEventListener("lcm-view", () => { this.bar.zoomed(this.view.scale); this.outline(); });
    this.box.addEventListener("dragstart", (e) => e.preventDefault());
    this.result.bar.addEventListener("keydown", (e) => { if (e.key === "ArrowLeft" || e.key === "ArrowRight") this.result.divide(this.result.share + (e.key === "ArrowLeft" ? -0.05 : 0.05)); });
    addEventListener("keydown", (e) => this.key(e));
    addEventListener("keyup", (e) => { if (e.key === " ") this.hold(false); });
    document.addEventListener("lcm-stage", (e) => e.detail.tab === this.tab && this.stage(e.detail.value));
    document.addEventListener("lcm-pick", (e) => e.detail.tab === this.tab && this.pick(e.detail.index));
    addEventListener("pagehide", () => this.keep());
  }

  // ---- what Gradio sends: {tool, masks, id, src, width, height, mask} ----

  async take(value) {
    if (!value) return;
    if (value.again && this.id && value.id !== this.id) { await this.under(value); return; }
    if (value.tool && value.tool !== this.tool) {
      this.tool = value.tool;
      this.keepSoon();
      if (value.tool === "sketch" && this.look_ === "picture" && this.result.value) this.look("beside");
    }
    if ("masks" in value) this.masks = value.masks;
    this.paper.dataset.tool = this.tool;
    if (value.src && value.id !== this.id) await this.open(value);
    if (value.mask && this.layers.uploaded !== value.mask.id) await this.takeMask(value.mask);
    this.follow();
  }

  async open(value) {
    const before = this.id ? this.capture() : null;
    this.id = value.id;
    this.result.put(null);
    this.look_ = "picture";
    this.reopening = Boolean(value.again && this.waiting);
    try {
      await this.layers.open(value);
      delete this.paper.dataset.mask;
      if (this.reopening) await this.paintAgain();
    } finally {
      this.reopening = false;
    }
    this.follow();
    const after = this.capture();
    this.first ||= after;
    registry.set("canvas", this.tab, true);
    if (before) this.history.add({ words: "another picture", undo: () => this.restore(before), redo: () => this.restore(after) });
    this.paper.dataset.ready = value.id; // with all that was painted over it before a reload
    this.keepSoon();
  }

  // The picture from before a reload, where another one was opened before it came: that one stays, and undo leads back.
  async under(value) {
    const old = new Layers(this.tab);
    const { mask, strokes, result, look } = this.waiting;
    this.waiting = null;
    await old.open(value);
    if (mask) await old.draw(old.mask, mask, false);
    if (strokes) await old.draw(old.strokes, strokes, false);
    const shown = result && { ...result, frames: result.frames.map((frame) => ({ ...frame, src: url(frame.url) })) };
    const before = { id: value.id, look, result: shown, layers: old.capture() };
    const after = this.first;
    this.history.below({ words: "another picture", undo: () => this.restore(before), redo: () => this.restore(after) });
    registry.get("channel", `sheet-${this.tab}`)?.({ id: Number(this.id) });
  }

  // An uploaded mask, shown as if it had been painted: white becomes ink.
  async takeMask({ id, src }) {
    if (!this.layers.natural) return;
    this.step("the uploaded mask", this.layers.mask);
    await this.layers.draw(this.layers.mask, src, true);
    this.layers.uploaded = id;
    this.paper.dataset.mask = id;
    this.keepSoon();
  }

  // ---- history ----

  capture() {
    return { id: this.id, look: this.look_, result: this.result.value, layers: this.layers.capture() };
  }

  restore(state) {
    const other = state.id !== this.id;
    this.id = state.id;
    this.layers.restore(state.layers);
    this.paper.dataset.ready = state.id;
    this.result.put(state.result);
    this.look_ = state.result ? state.look : "picture";
    if (other) registry.get("channel", `sheet-${this.tab}`)?.({ id: Number(state.id) });
    this.follow();
    this.painted();
  }

  // Before a change of a layer; a mask that was touched is no longer the uploaded file.
  step(words, layer = this.pens.layer) {
    let other = this.layers.kept(layer);
    let file = this.layers.uploaded;
    const swap = () => {
      const [now, nowFile] = [this.layers.kept(layer), this.layers.uploaded];
      this.layers.put(layer, other);
      [other, this.layers.uploaded, file] = [now, file, nowFile];
      if (!["picture", "beside"].includes(this.look_)) this.look("picture");
      this.painted();
    };
    if (layer === this.layers.mask) this.layers.uploaded = null;
    this.history.add({ words, undo: swap, redo: swap });
  }

  painted() {
    live.change(this);
    this.keepSoon();
  }

  clear() {
    this.step("clear");
    this.layers.put(this.pens.layer, null);
    this.painted();
  }

  invert() {
    this.step("invert", this.layers.mask);
    this.layers.invert();
    this.painted();
  }

  fill([left, top, width, height]) {
    const { mask } = this.layers;
    this.step("an area", mask);
    const pen = mask.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.fillStyle = INK;
    pen.fillRect(left * mask.width, top * mask.height, width * mask.width, height * mask.height);
    this.painted();
  }

  // ---- results ----

  stage(value) {
    const frames = (value.frames || []).filter((frame) => frame.url && frame.width);
    if (value.phase === "running" && value.frames?.[0]?.src) {
      this.result.preview(value.frames[0].src);
      if (!this.running) this.resting = this.look_;
      this.running = true;
      this.look(this.tool === "sketch" ? "beside" : "result");
    } else if (["done", "stopped", "live", "restored"].includes(value.phase) && value.frames?.length && !this.reopening) {
      if (frames.length) this.finish({ frames, origin: value.origin, index: 0 });
      else if (value.phase === "live") { this.result.preview(value.frames[0].src); this.look("beside"); }
      this.running = false;
    } else if (["failed", "stopped"].includes(value.phase) && this.running) {
      this.running = false;
      this.look(this.resting || "picture");
    }
  }

  finish(value) {
    const before = this.result.value;
    if (before?.frames[0].id === value.frames[0].id) return;
    const put = (result) => {
      this.result.put(result);
      this.look(!result ? "picture" : this.tool === "sketch" ? "beside" : "result");
    };
    if (this.look_ === "split" && !this.running) { this.result.put(value); this.follow(); }
    else put(value);
    this.history.add({ words: "the result", undo: () => put(before), redo: () => put(value) });
    this.keepSoon();
  }

  pick(index) {
    if (!this.result.value || index >= this.result.value.frames.length) return;
    this.result.put({ ...this.result.value, index });
    if (this.look_ === "picture") this.look("result");
    this.follow();
  }

  goOn() {
    const { frame } = this.result;
    if (frame) registry.get("channel", `receive-${this.tab}`)?.({ id: frame.id });
  }

  look(name) {
    this.look_ = name;
    this.follow();
  }

  // ---- what is seen ----

  follow() {
    const { layers, result } = this;
    const empty = !layers.natural && !this.running;
    const preview = this.running && !result.size;
    const size = layers.natural || [512, 512];
    const shown = result.size || size;
    const beside = this.look_ === "beside" && (result.value || this.running || result.image.src);
    const alone = ["result", "split"].includes(this.look_) && (result.value || this.running);
    this.empty.hidden = !empty;
    this.box.toggleAttribute("data-empty", empty);
    this.box.dataset.look = alone ? this.look_ : beside ? "beside" : "picture";
    this.paper.style.width = `${size[0]}px`;
    this.paper.style.height = `${size[1]}px`;
    this.paper.style.visibility = alone || empty ? "hidden" : "";
    const place = preview ? size : shown;
    result.node.hidden = !(alone || beside);
    registry.get("stage", this.tab)?.mark(result.frame?.id);
    result.node.style.width = `${place[0]}px`;
    result.node.style.height = `${place[1]}px`;
    result.node.style.left = beside ? `${size[0] * (1 + GAP)}px` : "0";
    if (!empty) this.view.show(...(beside ? [size[0] * (1 + GAP) + place[0], Math.max(size[1], place[1])] : alone ? place : size));
    this.bar.follow({ paints: this.masks || this.tool === "sketch", masks: this.masks, sketching: this.tool === "sketch", view: this.box.dataset.look, result: Boolean(result.value), empty });
    const what = { picture: "the picture", result: "the result", split: "picture and result, divided", beside: "picture and result side by side" }[this.box.dataset.look];
    this.box.ariaLabel = empty ? "Canvas: empty" : `Canvas: ${what}, ${shown[0]} by ${shown[1]} pixels`;
    this.outline();
  }

  // The ring that shows how large the brush is.
  outline(e) {
    if (e) this.pointer = [e.clientX, e.clientY];
    const brush = ["brush", "eraser"].includes(this.pens.pen) && !this.bar?.brushes.hidden;
    this.ring.hidden = !brush || !this.pointer;
    if (this.ring.hidden) return;
    const box = this.box.getBoundingClientRect();
    const size = (this.pens.size * this.paper.getBoundingClientRect().width) / Math.max(1, this.layers.mask.width);
    Object.assign(this.ring.style, { width: `${size}px`, height: `${size}px`, left: `${this.pointer[0] - box.left - this.box.clientLeft}px`, top: `${this.pointer[1] - box.top - this.box.clientTop}px` });
  }

  away() {
    this.pointer = null;
    this.ring.hidden = true;
  }

  // ---- pointer and keys ----

  at(event) {
    const box = this.layers.mask.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.layers.mask.width, ((event.clientY - box.top) / box.height) * this.layers.mask.height];
  }

  down(e) {
    if (!this.layers.picture) return;
    if (this.view.grabs(e)) {
      if (this.act === "paint" && this.touched) this.history.undo(); // the first of two fingers painted a dot
      this.grab(e, "pan");
    } else if (e.target === this.result.bar) this.grab(e, "divide");
    else if (["result", "split"].includes(this.box.dataset.look)) this.grab(e, "look");
    else if (!this.bar.brushes.hidden && e.button === 0 && this.paper.contains(e.target)) {
      this.touched = e.pointerType === "touch";
      const [x, y] = this.at(e);
      if (this.pens.down(e, [x, y])) this.grab(e, "paint");
    } else this.grab(e, "look");
    e.preventDefault();
    this.box.focus({ preventScroll: true });
  }

  grab(e, act) {
    this.act = act;
    this.from = this.held = [e.clientX, e.clientY];
    this.box.setPointerCapture(e.pointerId);
  }

  move(e) {
    this.outline(e);
    if (this.view.pinch(e) || !this.act) return;
    const [x, y] = this.held;
    this.held = [e.clientX, e.clientY];
    if (this.act === "paint") this.pens.move(e, this.at(e));
    else if (this.act === "divide") {
      const box = this.result.node.getBoundingClientRect();
      this.result.divide((e.clientX - box.left) / box.width);
    } else this.view.move(e.clientX - x, e.clientY - y);
  }

  up(e) {
    this.view.lift(e);
    const still = this.from && Math.hypot(e.clientX - this.from[0], e.clientY - this.from[1]) < 4;
    if (this.act === "look" && still && this.result.value && e.type === "pointerup") this.look(this.box.dataset.look === "result" ? "picture" : "result");
    this.act = null;
  }

  hold(down) {
    this.view.space = down;
    this.box.toggleAttribute("data-grab", down);
  }

  key(e) {
    if (!this.box.offsetParent || e.target.closest?.("input, textarea, select, [contenteditable], .cm-content")) return;
    const command = e.ctrlKey || e.metaKey;
    const used =
      command && e.key.toLowerCase() === "z" ? () => (e.shiftKey ? this.history.redo() : this.history.undo())
      : command && e.key.toLowerCase() === "y" ? () => this.history.redo()
      : command || e.altKey ? null
      : e.key === "[" ? () => this.bar.resize(this.pens.size / 1.25)
      : e.key === "]" ? () => this.bar.resize(this.pens.size * 1.25)
      : e.key === " " && this.pointer ? () => this.hold(true) // the pointer is over the canvas
      : null;
    if (!used) return;
    e.preventDefault();
    used();
  }

  // ---- kept over a reload ----

  keepSoon() {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.keep(), 700);
  }

  keep() {
    const { layers } = this;
    if (!layers.src || this.reopening) return; // what was painted is not over the picture yet
    if (layers.smaller) { forget(); return; } // what would come back is not the photo
    const { value } = this.result;
    const result = value && { ...value, frames: value.frames.map((frame) => ({ ...frame, src: undefined, thumb: undefined })) };
    keep({ src: layers.src, tool: this.tool, mask: layers.url(layers.mask), strokes: layers.url(layers.strokes), result, look: this.look_ });
  }

  // After a reload: the picture goes to the studio again, and what was painted comes back over it.
  async reopen() {
    const state = await kept();
    const settle = () => registry.set("canvas", this.tab, true);
    if (!state || this.id) return settle();
    this.waiting = state;
    setTimeout(settle, PATIENCE);
    (await registry.when("channel", `reopen-${this.tab}`))({ src: state.src, tool: state.tool, again: true });
  }

  async paintAgain() {
    const { mask, strokes, result, look } = this.waiting;
    this.waiting = null;
    if (mask) await this.layers.draw(this.layers.mask, mask, false);
    if (strokes) await this.layers.draw(this.layers.strokes, strokes, false);
    if (!result) return;
    const shown = { ...result, frames: result.frames.map((frame) => ({ ...frame, src: url(frame.url) })) };
    registry.get("stage", this.tab)?.draw({ phase: "restored", ...shown });
    this.result.put(shown);
    this.look_ = look;
  }

  // What was painted, for the server: data URLs, empty where nothing was.
  sent() {
    const mask = this.layers.uploaded ? "uploaded" : this.layers.url(this.layers.mask);
    return JSON.stringify({ sheet: Number(this.id) || 0, mask: this.masks ? mask : "", strokes: this.tool === "sketch" ? this.layers.url(this.layers.strokes) : "" });
  }
}

export function mountDesk(tab, root, { props, watch }) {
  const desk = new Desk(tab, root);
  registry.set("desk", tab, desk);
  window.lcm = window.lcm || {};
  window.lcm.painted = () => desk.sent();
  let last = Promise.resolve(); // one value after the other: pictures take time to decode
  const take = () => { const value = props.value; last = last.then(() => desk.take(value)).catch((error) => say(tab, { kind: "error", text: `The picture cannot be shown: ${error.message}` })); };
  watch("value", take);
  take();
  desk.reopen();
}

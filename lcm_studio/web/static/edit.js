// The Edit tab's canvas: a picture, a mask over it and strokes over it; and Live sketch, which follows the hand.
import { field, h, readLines, registry, say, url } from "./registry.js";

// The longer side of what is painted on: a whole multiple of a small picture's, a large one's own up to the second.
const SIDE = [640, 1600];
const MOST_UNDO = 12;
const INK = "#ff2d55";
const REST = 350;
const PALETTE = ["#ffffff", "#1b2a4a", "#5aa9e6", "#f4a259", "#e4572e", "#7a4b2a", "#2f7d32", "#9ccc65", "#f2d16b", "#8d99ae", "#b26fc4", "#111111"];
const MASKED = ["inpaint", "outpaint", "superres"];

class Paint {
  constructor(tab, root, watch, props) {
    this.tab = tab;
    this.size = 36;
    this.colour = PALETTE[2];
    this.erase = false;
    this.pick = false;
    this.tool = "inpaint";
    this.undo = [];
    this.base = h("canvas", { className: "lcm-base" });
    this.strokes = h("canvas", { className: "lcm-strokes" });
    this.mask = h("canvas", { className: "lcm-mask", id: `${tab}-canvas` });
    this.paper = h("div", { className: "lcm-paper", role: "application", ariaLabel: "Canvas: paint with the pointer" }, this.base, this.strokes, this.mask);
    root.replaceChildren(this.paper, this.bar());
    for (const [name, fn] of [["pointerdown", "down"], ["pointermove", "move"], ["pointerup", "up"], ["pointercancel", "up"]]) {
      this.paper.addEventListener(name, (event) => this[fn](event));
    }
    watch("value", () => this.take(props.value));
    this.take(props.value);
  }

  bar() {
    const button = (text, title, act) => h("button", { type: "button", className: "lcm-tool", title, onclick: act }, text);
    this.eraser = button("Eraser", "Take away what was painted", () => this.mode("erase"));
    this.dropper = button("Pick", "Take a colour from the picture", () => this.mode("pick"));
    this.well = h("input", { type: "color", value: this.colour, ariaLabel: "Stroke colour", oninput: (e) => this.ink(e.target.value) });
    const size = h("input", { type: "range", min: 2, max: 200, value: this.size, ariaLabel: "Brush size", oninput: (e) => (this.size = Number(e.target.value)) });
    this.colours = h("span", { className: "lcm-palette" }, ...PALETTE.map((c) => h("button", { type: "button", ariaLabel: `Colour ${c}`, title: c, style: `background:${c}`, onclick: () => this.ink(c) })), this.well, this.dropper);
    this.swap = button("Invert", "Swap what is kept and what may change", () => this.invert());
    this.bar = h("div", { className: "lcm-brushes", role: "toolbar", ariaLabel: "Brush" }, h("label", {}, "Brush", size), this.eraser, button("Undo", "Take back the last stroke", () => this.back()), button("Clear", "Take away all that was painted", () => this.clear()), this.swap, this.colours);
    return this.bar;
  }

  mode(name) {
    this.erase = name === "erase" && !this.erase;
    this.pick = name === "pick" && !this.pick;
    this.eraser.ariaPressed = String(this.erase);
    this.dropper.ariaPressed = String(this.pick);
  }

  ink(colour) {
    this.colour = colour;
    this.well.value = colour;
    this.mode("");
  }

  take(value) {
    if (!value) return;
    if (value.tool) this.tool = value.tool;
    this.colours.hidden = this.tool !== "sketch";
    this.swap.hidden = !MASKED.includes(this.tool);
    this.bar.hidden = this.swap.hidden && this.colours.hidden; // nothing to paint
    this.paper.dataset.tool = this.tool;
    if (value.mask) this.takeMask(value.mask);
    if (!value.src || value.id === this.id) return;
    this.id = value.id;
    const side = Math.max(value.width, value.height);
    const scale = side < SIDE[0] ? Math.max(1, Math.round(SIDE[0] / side)) : Math.min(1, SIDE[1] / side);
    this.natural = [value.width, value.height];
    this.uploaded = null;
    for (const canvas of [this.base, this.strokes, this.mask]) {
      canvas.width = Math.max(1, Math.round(value.width * scale));
      canvas.height = Math.max(1, Math.round(value.height * scale));
    }
    this.paper.style.aspectRatio = `${value.width} / ${value.height}`;
    this.undo = [];
    const img = new Image();
    img.onload = () => {
      this.base.getContext("2d").drawImage(img, 0, 0, this.base.width, this.base.height);
      this.picture = img;
      this.paper.dataset.ready = value.id;
    };
    img.src = value.src;
  }

  // An uploaded mask, shown as if it had been painted: white becomes ink.
  async takeMask({ id, src }) {
    if (!this.natural || this.uploaded === id) return;
    const img = new Image();
    img.src = src;
    await img.decode();
    this.remember(this.mask);
    const pen = this.mask.getContext("2d");
    pen.clearRect(0, 0, this.mask.width, this.mask.height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(img, 0, 0, this.mask.width, this.mask.height);
    const sheet = pen.getImageData(0, 0, this.mask.width, this.mask.height);
    for (let i = 0; i < sheet.data.length; i += 4) {
      const white = sheet.data[i] > 0;
      [sheet.data[i], sheet.data[i + 1], sheet.data[i + 2], sheet.data[i + 3]] = [255, 45, 85, white ? 255 : 0];
    }
    pen.putImageData(sheet, 0, 0);
    this.uploaded = id;
    this.paper.dataset.mask = id;
  }

  layer() {
    return this.tool === "sketch" ? this.strokes : this.mask;
  }

  at(event) {
    const box = this.mask.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.mask.width, ((event.clientY - box.top) / box.height) * this.mask.height];
  }

  down(event) {
    if (!this.picture || event.button > 0) return;
    event.preventDefault();
    const [x, y] = this.at(event);
    if (this.pick) {
      const pixel = this.base.getContext("2d").getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
      this.ink(`#${[...pixel.slice(0, 3)].map((v) => v.toString(16).padStart(2, "0")).join("")}`);
      return;
    }
    this.paper.setPointerCapture(event.pointerId);
    this.remember();
    this.last = [x, y];
    this.line(x, y);
  }

  move(event) {
    if (!this.last) return;
    const [x, y] = this.at(event);
    this.line(x, y);
  }

  up() {
    this.last = null;
  }

  line(x, y) {
    const pen = this.layer().getContext("2d");
    pen.globalCompositeOperation = this.erase ? "destination-out" : "source-over";
    pen.strokeStyle = this.tool === "sketch" ? this.colour : INK;
    pen.lineWidth = this.size;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...this.last);
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    this.last = [x, y];
    performance.mark("lcm-stroke");
    live.change(this);
  }

  // Before a change of a layer; a mask that was touched is no longer the uploaded file.
  remember(layer = this.layer()) {
    if (!layer.width) return;
    if (layer === this.mask) this.uploaded = null;
    this.undo.push([layer, layer.getContext("2d").getImageData(0, 0, layer.width, layer.height)]);
    if (this.undo.length > MOST_UNDO) this.undo.shift();
  }

  back() {
    const step = this.undo.pop();
    if (!step) return;
    if (step[0] === this.mask) this.uploaded = null;
    step[0].getContext("2d").putImageData(step[1], 0, 0);
    live.change(this);
  }

  clear() {
    this.remember();
    const layer = this.layer();
    layer.getContext("2d").clearRect(0, 0, layer.width, layer.height);
    live.change(this);
  }

  invert() {
    if (!this.mask.width) return;
    this.remember(this.mask);
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "source-out";
    pen.fillStyle = INK;
    pen.fillRect(0, 0, this.mask.width, this.mask.height);
    pen.globalCompositeOperation = "source-over";
  }

  // What was painted, for the server: data URLs, empty where nothing was.
  painted() {
    const drawn = (canvas) => {
      if (!canvas.width) return "";
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      for (let i = 3; i < data.length; i += 4) if (data[i]) return canvas.toDataURL("image/png");
      return "";
    };
    const mask = this.uploaded ? "uploaded" : drawn(this.mask);
    return JSON.stringify({ mask: MASKED.includes(this.tool) ? mask : "", strokes: this.tool === "sketch" ? drawn(this.strokes) : "" });
  }

  // Picture and strokes together at the picture's own size.
  together() {
    const [width, height] = this.natural;
    const sheet = h("canvas", { width, height });
    const pen = sheet.getContext("2d");
    pen.drawImage(this.picture, 0, 0, width, height);
    pen.drawImage(this.strokes, 0, 0, width, height);
    return sheet.toDataURL("image/png");
  }
}

// One step while the hand moves, more when it rests; only the newest is asked for.
const live = {
  busy: null, next: null, timer: 0,
  on: () => document.querySelector("#edit-live input")?.checked,
  change(paint) {
    if (paint.tool !== "sketch" || !this.on()) return;
    clearTimeout(this.timer);
    if (this.busy?.refine) this.busy.abort.abort();
    this.next = paint;
    this.pump();
  },
  async pump() {
    if (this.busy || !this.next) return;
    const paint = this.next;
    this.next = null;
    await this.ask(paint, false);
    if (this.next) this.pump();
    else this.timer = setTimeout(() => this.ask(paint, true), REST);
  },
  async ask(paint, refine) {
    const abort = new AbortController();
    const busy = (this.busy = { refine, abort });
    const number = (id) => Number(field(id)?.value);
    const alone = document.querySelector("#edit-only-strokes input")?.checked;
    const form = { image: paint.together(), strokes: alone ? paint.strokes.toDataURL("image/png") : "", prompt: field("edit-prompt")?.value || "", steps: refine ? number("edit-steps") : 1, guidance: number("edit-guidance"), strength: number("edit-strength"), seed: number("edit-seed"), refine };
    try {
      const answer = await fetch(url("studio/sketch"), { method: "POST", signal: abort.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(form) });
      if (!answer.ok) {
        const data = await answer.json().catch(() => ({}));
        say(paint.tab, { kind: "error", text: data.detail || `The studio answered ${answer.status}.` });
        return;
      }
      await readLines(answer.body, (value) => {
        registry.get("stage", paint.tab)?.draw(value);
        performance.mark("lcm-live");
      });
    } catch (error) {
      if (error.name !== "AbortError") say(paint.tab, { kind: "error", text: "The studio does not answer; is it still running?" });
    } finally {
      if (this.busy === busy) this.busy = null;
      if (refine && this.next) this.pump();
    }
  },
};

const CSS = `
.lcm-brushes { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding: 10px 0 0; font-size: 13px; justify-content: center; }
.lcm-brushes[hidden] { display: none; }
.lcm-brushes label { display: flex; gap: 8px; align-items: center; }
.lcm-brushes input[type="range"] { width: 64px; }
.lcm-brushes [aria-pressed="true"] { outline: 2px solid currentColor; }
.lcm-palette { display: inline-flex; gap: 3px; align-items: center; flex-wrap: wrap; }
.lcm-palette[hidden] { display: none; }
.lcm-palette button:not(.lcm-tool) { width: 20px; height: 20px; border-radius: 50%; border: 1px solid #0003; padding: 0; }
.lcm-palette input { width: 28px; height: 24px; padding: 0; border: 0; background: none; }
.lcm-paper { position: relative; width: min(100%, 62vh, 640px); margin: 0 auto; aspect-ratio: 1; background: #fff; border-radius: 6px; overflow: hidden; cursor: crosshair; touch-action: none; box-shadow: 0 2px 10px #0002; }
.lcm-paper canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.lcm-paper .lcm-mask { opacity: 0.45; }
.lcm-paper[data-tool="sketch"] .lcm-mask { opacity: 0.12; }
.lcm-paper:not([data-tool="sketch"]) .lcm-strokes { display: none; }
.lcm-film { display: flex; gap: 8px; overflow-x: auto; padding: 6px 0; }
.lcm-film figure { margin: 0; flex: none; text-align: center; font-size: 12px; }
.lcm-film img { width: 96px; border-radius: 4px; }
.lcm-moving { margin: 14px auto; display: flex; flex-direction: column; align-items: center; gap: 8px; }
.lcm-moving img { width: min(100%, 320px); border-radius: 6px; image-rendering: auto; }
.lcm-pair { display: grid !important; grid-template-columns: minmax(0, 1fr); gap: 16px !important; align-items: start; }
.lcm-pair > * { min-width: 0 !important; width: 100%; }
.lcm-pair .lcm-stage { min-height: 0; padding: 14px; }
.lcm-pair .lcm-frames[data-count="1"] .lcm-picture img { width: min(100%, 56vh); }
.lcm-pair .lcm-frames[data-count="1"] .lcm-picture { width: 100%; text-align: center; background: none; box-shadow: none; }
.lcm-pair .lcm-horizon { width: min(180px, 50%); margin-bottom: 14px; }
#edit-slider { max-width: min(100%, 52vh); margin: 0 auto; }
#edit-slider .icon-button-wrapper { display: none; }
@media (min-width: 1100px) {
  .lcm-pair { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .lcm-pair .lcm-stage { aspect-ratio: 1; }
  .lcm-pair .lcm-stage:has(.lcm-frame) { aspect-ratio: auto; padding: 0; border: 0; border-radius: 6px; background: none; }
}
@media (max-width: 640px) {
  .lcm-pair .lcm-stage:not(:has(.lcm-frame)) { padding: 18px; }
  .lcm-pair .lcm-horizon { display: none; }
}
`;

export function mountPaint(tab, element, { props, watch }) {
  if (!document.getElementById("lcm-edit-css")) document.head.append(h("style", { id: "lcm-edit-css", textContent: CSS }));
  const paint = new Paint(tab, element.querySelector(".lcm-mount") || element, watch, props);
  registry.set("paint", tab, paint);
  window.lcm = window.lcm || {};
  window.lcm.painted = () => paint.painted();
}

// A result in the canvas' place: alone, split against the picture it was made of, or beside it.
import { h, url } from "../registry.js";

export class Result {
  constructor(layers) {
    this.layers = layers;
    this.image = h("img", { alt: "", draggable: false });
    this.before = h("canvas", { className: "lcm-before" });
    this.bar = h("i", { className: "lcm-divider", role: "slider", tabIndex: 0, ariaLabel: "Divider between picture and result", ariaValueMin: "0", ariaValueMax: "100" });
    this.node = h("div", { className: "lcm-result", hidden: true }, this.image, this.before, this.bar);
    this.value = null; // {frames, origin, index}
    this.divide(0.5);
  }

  get frame() {
    return this.value?.frames[this.value.index] || null;
  }

  // {frames, origin, index} or null.
  put(value) {
    this.value = value;
    this.size = null;
    if (!value) return;
    const frame = this.frame;
    this.image.src = frame.src || url(frame.url);
    this.image.alt = `Result ${value.index + 1} of ${value.frames.length}`;
    if (frame.url && frame.src) {
      const full = new Image(); // the PNG takes the JPEG's place when it is there
      full.onload = () => { if (this.frame === frame) this.image.src = full.src; };
      full.src = url(frame.url);
    }
    this.size = [frame.width, frame.height];
    this.drawBefore(value.origin || { x: 0, y: 0, width: frame.width, height: frame.height });
  }

  // A step's estimate while it runs.
  preview(src) {
    this.image.src = src;
    this.image.alt = "Estimate of the step under way";
  }

  // What the result was made of, at the result's size; a widened picture lies where it is in the result.
  drawBefore({ x, y, width, height }) {
    [this.before.width, this.before.height] = this.size;
    const pen = this.before.getContext("2d");
    pen.fillStyle = "#7f7f7f";
    pen.fillRect(0, 0, ...this.size);
    if (!this.layers.picture) return;
    pen.drawImage(this.layers.picture, x, y, width, height);
    pen.drawImage(this.layers.strokes, x, y, width, height);
  }

  divide(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.node.style.setProperty("--share", `${100 * this.share}%`);
    this.bar.ariaValueNow = String(Math.round(100 * this.share));
  }
}

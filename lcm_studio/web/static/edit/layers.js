// The picture and what is painted over it: a mask, and strokes of colour.
import { h } from "../registry.js";

// The longer side of what is painted on: a whole multiple of a small picture's, a large one's own up to the second.
const SIDE = [640, 1600];
export const INK = "#ff2d55";
const RED = [255, 45, 85];

export class Layers {
  constructor(tab) {
    this.base = h("canvas", { className: "lcm-base" });
    this.strokes = h("canvas", { className: "lcm-strokes" });
    this.mask = h("canvas", { className: "lcm-mask", id: `${tab}-canvas` });
    this.uploaded = null; // the id of the file that the mask is, while nobody has painted on it
  }

  get all() {
    return [this.base, this.strokes, this.mask];
  }

  // A new picture: {width, height, src}; resolves when it is drawn.
  async open({ width, height, src, smaller = false }) {
    const side = Math.max(width, height);
    const scale = side < SIDE[0] ? Math.max(1, Math.round(SIDE[0] / side)) : Math.min(1, SIDE[1] / side);
    this.natural = [width, height];
    this.smaller = smaller; // src is a smaller picture than the one that is edited
    this.src = src;
    this.uploaded = null;
    for (const canvas of this.all) {
      canvas.width = Math.max(1, Math.round(width * scale));
      canvas.height = Math.max(1, Math.round(height * scale));
    }
    const img = new Image();
    img.src = src;
    await img.decode();
    if (this.src !== src) return; // another one came meanwhile
    this.picture = img;
    this.drawBase();
  }

  drawBase() {
    const pen = this.base.getContext("2d");
    pen.clearRect(0, 0, this.base.width, this.base.height);
    pen.drawImage(this.picture, 0, 0, this.base.width, this.base.height);
  }

  pixels(layer) {
    return layer.width ? layer.getContext("2d").getImageData(0, 0, layer.width, layer.height) : null;
  }

  // Pixels of a layer, or null where nothing is painted.
  kept(layer) {
    const data = this.pixels(layer);
    return data && painted(data) ? data : null;
  }

  put(layer, data) {
    const pen = layer.getContext("2d");
    if (data) pen.putImageData(data, 0, 0);
    else pen.clearRect(0, 0, layer.width, layer.height);
  }

  // All that a step back or forth needs.
  capture() {
    return { natural: this.natural, smaller: this.smaller, src: this.src, picture: this.picture, uploaded: this.uploaded, size: [this.mask.width, this.mask.height], mask: this.kept(this.mask), strokes: this.kept(this.strokes) };
  }

  restore(state) {
    Object.assign(this, { natural: state.natural, smaller: state.smaller, src: state.src, picture: state.picture, uploaded: state.uploaded });
    for (const canvas of this.all) [canvas.width, canvas.height] = state.size;
    if (this.picture) this.drawBase();
    this.put(this.mask, state.mask);
    this.put(this.strokes, state.strokes);
  }

  // A picture drawn into a layer; as ink where `red`: what is white may change.
  async draw(layer, src, red) {
    const img = new Image();
    img.src = src;
    await img.decode();
    const pen = layer.getContext("2d");
    pen.clearRect(0, 0, layer.width, layer.height);
    pen.imageSmoothingEnabled = !red;
    pen.drawImage(img, 0, 0, layer.width, layer.height);
    if (!red) return;
    const sheet = this.pixels(layer);
    for (let i = 0; i < sheet.data.length; i += 4) {
      const white = sheet.data[i] > 0;
      [sheet.data[i], sheet.data[i + 1], sheet.data[i + 2], sheet.data[i + 3]] = [...RED, white ? 255 : 0];
    }
    pen.putImageData(sheet, 0, 0);
  }

  invert() {
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "source-out";
    pen.fillStyle = INK;
    pen.fillRect(0, 0, this.mask.width, this.mask.height);
    pen.globalCompositeOperation = "source-over";
  }

  // What is painted, as a data URL; empty where nothing is.
  url(layer) {
    return this.kept(layer) ? layer.toDataURL("image/png") : "";
  }

  // Picture and strokes together at the picture's own size, or the one that the canvas has of it.
  together() {
    const [width, height] = this.smaller ? [this.picture.naturalWidth, this.picture.naturalHeight] : this.natural;
    const sheet = h("canvas", { width, height });
    const pen = sheet.getContext("2d");
    pen.drawImage(this.picture, 0, 0, width, height);
    pen.drawImage(this.strokes, 0, 0, width, height);
    return sheet.toDataURL("image/png");
  }

  // The connected region around a point whose colours are within `tolerance` (of 255) of it, as ink.
  region(x, y, tolerance) {
    const { width, height } = this.base;
    const { data } = this.pixels(this.base);
    const ink = new ImageData(width, height);
    const at = Math.floor(y) * width + Math.floor(x);
    const want = data.slice(4 * at, 4 * at + 3);
    const seen = new Uint8Array(width * height);
    const near = (i) => Math.max(Math.abs(data[4 * i] - want[0]), Math.abs(data[4 * i + 1] - want[1]), Math.abs(data[4 * i + 2] - want[2])) <= tolerance;
    const stack = [at];
    seen[at] = 1;
    while (stack.length) {
      const i = stack.pop();
      ink.data.set([...RED, 255], 4 * i);
      const column = i % width;
      for (const next of [column > 0 ? i - 1 : -1, column < width - 1 ? i + 1 : -1, i - width, i + width]) {
        if (next < 0 || next >= seen.length || seen[next] || !near(next)) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    const sheet = h("canvas", { width, height });
    sheet.getContext("2d").putImageData(ink, 0, 0);
    return sheet;
  }
}

function painted({ data }) {
  for (let i = 3; i < data.length; i += 4) if (data[i]) return true;
  return false;
}

// What a pointer does on the picture: brush, eraser, rectangle, lasso, a region of one colour, the colour picker.
import { INK } from "./layers.js";

export const PENS = {
  brush: { title: "Brush", words: "Paint what may change. [ and ] change its size." },
  eraser: { title: "Eraser", words: "Take away what was painted." },
  rectangle: { title: "Rectangle", words: "Drag a box." },
  lasso: { title: "Lasso", words: "Draw around what may change." },
  wand: { title: "Region", words: "Click: the region of that colour.", masks: true },
  pick: { title: "Pick", words: "Take a colour from the picture.", strokes: true },
};
const TOLERANCE = 24; // of 255, for a region

export class Pens {
  constructor(desk) {
    this.desk = desk;
    this.pen = "brush";
    this.size = 36;
    this.colour = "#5aa9e6";
  }

  get sketching() {
    return this.desk.tool === "sketch";
  }

  get layer() {
    return this.sketching ? this.desk.layers.strokes : this.desk.layers.mask;
  }

  // The brush in pixels of the layer; a pen's pressure makes it thinner.
  width(e) {
    return e.pointerType === "pen" && e.pressure > 0 ? Math.max(1, this.size * (0.25 + e.pressure)) : this.size;
  }

  ink(pen, e) {
    pen.globalCompositeOperation = this.pen === "eraser" ? "destination-out" : "source-over";
    pen.strokeStyle = pen.fillStyle = this.sketching ? this.colour : INK;
    pen.lineWidth = this.width(e);
    pen.lineCap = pen.lineJoin = "round";
    return pen;
  }

  down(e, [x, y]) {
    const { layers } = this.desk;
    if (this.pen === "pick") {
      const pixel = layers.base.getContext("2d").getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
      this.desk.bar.colour(`#${[...pixel.slice(0, 3)].map((v) => v.toString(16).padStart(2, "0")).join("")}`);
      return false;
    }
    this.desk.step(PENS[this.pen].title);
    this.from = this.last = [x, y];
    if (this.pen === "wand") {
      this.ink(this.layer.getContext("2d"), e).drawImage(layers.region(x, y, TOLERANCE), 0, 0);
      this.desk.painted();
      return false;
    }
    if (this.pen === "rectangle" || this.pen === "lasso") {
      this.clean = layers.pixels(this.layer);
      this.path = [[x, y]];
    } else this.line(e, [x, y]);
    return true;
  }

  move(e, point) {
    if (this.pen === "rectangle" || this.pen === "lasso") this.shape(e, point);
    else this.line(e, point);
  }

  line(e, [x, y]) {
    const pen = this.ink(this.layer.getContext("2d"), e);
    pen.beginPath();
    pen.moveTo(...this.last);
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    this.last = [x, y];
    performance.mark("lcm-stroke");
    this.desk.painted();
  }

  shape(e, [x, y]) {
    this.desk.layers.put(this.layer, this.clean);
    const pen = this.ink(this.layer.getContext("2d"), e);
    pen.beginPath();
    if (this.pen === "rectangle") pen.rect(...this.from, x - this.from[0], y - this.from[1]);
    else {
      this.path.push([x, y]);
      this.path.forEach(([px, py], i) => (i ? pen.lineTo(px, py) : pen.moveTo(px, py)));
      pen.closePath();
    }
    pen.fill();
    this.desk.painted();
  }
}

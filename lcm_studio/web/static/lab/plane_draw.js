// Drawing on the plane: densities, score arrows, particles, paths, and the map from noise to data.
// Everything is in the frame's coordinates, [-half, half] with y up, where a cloud of any noise level has the same spread.
import { h } from "../registry.js";
import { colour, night } from "./parts.js";

const HUES = 24;
const [PLACES, KEPT] = [200, 8]; // backdrops from noise to data, and how many of them stay
const PHASES = 4; // places of a disc within a pixel, each way

export const hue = (x, y) => Math.floor(((Math.atan2(y, x) / (2 * Math.PI) + 1) % 1) * HUES) % HUES;
export const tint = (bin, alpha = 1) => `hsl(${(bin * 360) / HUES + 8} ${night() ? "72% 66%" : "64% 42%"} / ${alpha})`;

// A pixel of a bitmap as one number, as browsers on little-endian machines keep it.
const word = (r, g, b, a) => ((a << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;

// The colour of a bin without its opacity, as in `tint`.
function rgb(bin) {
  const [saturation, lightness] = night() ? [0.72, 0.66] : [0.64, 0.42];
  const turn = ((bin * 360) / HUES + 8) / 30;
  const channel = (n) => 255 * (lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min((n + turn) % 12 - 3, 9 - ((n + turn) % 12), 1)));
  return word(channel(0), channel(8), channel(4), 0);
}

// Discs of a radius in device pixels, at PHASES x PHASES places within a pixel: opacity of each pixel that they touch.
const discs = new Map();
function stamped(radius, alpha) {
  const key = `${radius.toFixed(2)} ${alpha}`;
  if (discs.has(key)) return discs.get(key);
  const reach = Math.ceil(radius + 0.5);
  const width = 2 * reach + 1;
  const at = [];
  for (let phase = 0; phase < PHASES * PHASES; phase += 1) {
    const [cx, cy] = [reach + ((phase % PHASES) + 0.5) / PHASES, reach + (Math.floor(phase / PHASES) + 0.5) / PHASES];
    at.push(Uint8Array.from({ length: width * width }, (_, i) => alpha * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot((i % width) + 0.5 - cx, Math.floor(i / width) + 0.5 - cy)))));
  }
  if (discs.size > 200) discs.clear();
  discs.set(key, { reach, width, at });
  return discs.get(key);
}

// t <-> place on the slider (0 pure noise, 1 data): even steps of t^(1/rho).
export class Levels {
  constructor([low, high], rho, sigma) {
    Object.assign(this, { low, high, rho, sigma, top: high ** (1 / rho), bottom: low ** (1 / rho) });
  }

  t(place) {
    return (this.top + place * (this.bottom - this.top)) ** this.rho;
  }

  place(t) {
    return (this.top - Math.max(t, this.low) ** (1 / this.rho)) / (this.top - this.bottom);
  }

  scale(t) {
    return this.sigma / Math.hypot(this.sigma, t);
  }
}

// The noised densities and scores at all levels of one distribution, and a cloud that is noised here.
export class Atlas {
  constructor(message) {
    const { pixels, arrows, levels, cloud, fine, half, body } = message;
    Object.assign(this, { pixels, arrows, half, fine, count: levels.length, cloud });
    const shape = levels.length * pixels * pixels;
    this.density = new Uint8Array(body, 0, shape);
    let at = shape;
    const take = (size) => {
      const part = new Int16Array(body.slice(at, at + 2 * size));
      at += 2 * size;
      return part;
    };
    this.score = take(levels.length * arrows * arrows * 2);
    this.clean = take(2 * cloud);
    this.noise = take(2 * cloud);
  }

  // The density at a place on the slider, in the page's colours; the same small canvas every time.
  sheet(place) {
    const theme = night() ? "night" : "day";
    if (!this.canvas) {
      this.canvas = h("canvas", { width: this.pixels, height: this.pixels });
      this.pen = this.canvas.getContext("2d");
      this.image = this.pen.createImageData(this.pixels, this.pixels);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    if (this.theme !== theme) {
      this.theme = theme;
      const [low, high] = night() ? [[21, 24, 31], [150, 98, 70]] : [[255, 253, 249], [133, 166, 189]];
      this.palette = Uint32Array.from({ length: 256 }, (_, i) => word(...low.map((from, c) => from + (i / 255) * (high[c] - from)), 255));
    }
    const [level, share] = this.between(place);
    const count = this.pixels * this.pixels;
    const [lower, upper] = [level * count, (level + 1) * count];
    for (let i = 0; i < count; i += 1) this.words[i] = this.palette[(this.density[lower + i] * (1 - share) + this.density[upper + i] * share) | 0];
    this.pen.putImageData(this.image, 0, 0);
    return this.canvas;
  }

  between(place) {
    const at = Math.min(Math.max(place, 0), 1) * (this.count - 1);
    const lower = Math.min(Math.floor(at), this.count - 2);
    return [lower, at - lower];
  }

  // x_t = x_0 + t z, in the frame.
  noised(t, scale, out) {
    for (let i = 0; i < out.length; i += 1) out[i] = ((this.clean[i] + t * this.noise[i]) * scale) / this.fine;
    return out;
  }
}

// Hue of each particle by where it stands, and the order that draws one colour after the other.
export function tinted(points) {
  const count = points.length / 2;
  const bins = Array.from({ length: HUES }, () => []);
  for (let i = 0; i < count; i += 1) bins[hue(points[2 * i], points[2 * i + 1])].push(i);
  return bins;
}

// Densities and arrows at places on the slider, drawn once for all panels and for the next frames.
export class Backdrops {
  constructor() {
    this.kept = new Map();
  }

  clear() {
    this.kept.clear();
  }

  // `draw(sheet, place)` makes what is not there yet; `name` says what it draws.
  get(like, place, name, draw) {
    const near = Math.round(place * PLACES) / PLACES;
    const key = `${name} ${near} ${like.canvas.width}`;
    let sheet = this.kept.get(key);
    if (!sheet) {
      sheet = like.twin();
      draw(sheet, near);
    }
    this.kept.delete(key); // the newest are last
    this.kept.set(key, sheet);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return sheet;
  }
}

export class Sheet {
  constructor(canvas, half) {
    Object.assign(this, { canvas, half, pen: canvas.getContext("2d") });
  }

  // Fit the bitmap to the screen; returns the side in CSS pixels, 0 where it is not shown.
  fit() {
    const side = this.canvas.clientWidth;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (this.canvas.width !== Math.round(side * ratio)) this.canvas.width = this.canvas.height = Math.round(side * ratio);
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.side = side;
    return side;
  }

  // A canvas of the same size that is not on the page.
  twin() {
    const twin = new Sheet(h("canvas", { width: this.canvas.width, height: this.canvas.height }), this.half);
    twin.side = this.side;
    twin.pen.setTransform(this.canvas.width / this.side, 0, 0, this.canvas.width / this.side, 0, 0);
    return twin;
  }

  at(x) {
    return (x / this.half + 1) * 0.5 * this.side;
  }

  clear() {
    this.factor = 1;
    this.pen.globalAlpha = 1;
    this.pen.fillStyle = night() ? "rgb(21 24 31)" : "rgb(255 253 249)";
    this.pen.fillRect(0, 0, this.side, this.side);
  }

  // What another sheet of this size shows.
  copy(other) {
    this.pen.drawImage(other.canvas, 0, 0, this.side, this.side);
  }

  // A zoom around the middle, for the frame that stands still.
  zoom(factor) {
    this.factor = factor;
    const middle = this.side / 2;
    this.pen.translate(middle, middle);
    this.pen.scale(factor, factor);
    this.pen.translate(-middle, -middle);
  }

  density(atlas, place) {
    this.pen.imageSmoothingEnabled = true;
    this.pen.imageSmoothingQuality = "low"; // bilinear: the density is smooth
    this.pen.drawImage(atlas.sheet(place), 0, 0, this.side, this.side);
  }

  // t s(x, t) on the grid: the length of an arrow is the noise that the score sees there.
  arrows(atlas, score, place, stroke) {
    const [level, share] = atlas.between(place);
    const [n, size] = [atlas.arrows, 2 * atlas.arrows ** 2];
    const pen = this.pen;
    const unit = (1.5 * this.half) / (n - 1);
    pen.strokeStyle = stroke;
    pen.lineWidth = 1;
    pen.globalAlpha = 0.75;
    pen.lineCap = "round";
    pen.beginPath();
    for (let row = 0; row < n; row += 1) {
      for (let column = 0; column < n; column += 1) {
        const i = level * size + 2 * (row * n + column);
        const read = (k) => (score[i + k] * (1 - share) + score[i + size + k] * share) / (0.25 * atlas.fine);
        const [dx, dy] = [read(0), read(1)];
        const length = Math.hypot(dx, dy);
        if (length < 0.02) continue;
        const reach = (unit * Math.tanh(length / 1.6)) / length;
        const [x, y] = [this.at(this.half * ((2 * column) / (n - 1) - 1)), this.at(-this.half * ((2 * row) / (n - 1) - 1))];
        const pixels = this.side / (2 * this.half);
        const [ex, ey] = [x + dx * reach * pixels, y - dy * reach * pixels];
        const [ux, uy] = [dx / length, -dy / length];
        const head = Math.min(4, 0.35 * reach * length * pixels);
        pen.moveTo(x, y);
        pen.lineTo(ex, ey);
        pen.moveTo(ex - head * (ux - 0.55 * uy), ey - head * (uy + 0.55 * ux));
        pen.lineTo(ex, ey);
        pen.lineTo(ex - head * (ux + 0.55 * uy), ey - head * (uy - 0.55 * ux));
      }
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  // Discs are stamped into a bitmap: thousands of arcs in every frame stutter where no graphics card draws them.
  // Where two meet, the one that covers more of a pixel has it.
  particles(points, bins, size = 2.4, alpha = 0.85) {
    const side = this.canvas.width;
    if (this.bitmap?.width !== side) {
      this.layer = h("canvas", { width: side, height: side });
      this.bitmap = this.layer.getContext("2d").createImageData(side, side);
      this.words = new Uint32Array(this.bitmap.data.buffer);
    }
    const { words } = this;
    words.fill(0);
    const ratio = side / this.side;
    const [k, middle] = [(side / (2 * this.half)) * this.factor, side / 2];
    const stamps = stamped(Math.max(0.55, (size / 2) * this.factor) * ratio, Math.round(255 * alpha));
    const { reach, width } = stamps;
    bins.forEach((members, bin) => {
      const colour = rgb(bin);
      for (const i of members) {
        const [x, y] = [middle + points[2 * i] * k, middle - points[2 * i + 1] * k];
        const [left, top] = [Math.floor(x) - reach, Math.floor(y) - reach];
        if (left < 0 || top < 0 || left + width > side || top + width > side) continue;
        const stamp = stamps.at[((y - Math.floor(y)) * PHASES | 0) * PHASES + ((x - Math.floor(x)) * PHASES | 0)];
        for (let row = 0, from = 0, to = top * side + left; row < width; row += 1, to += side - width) {
          for (let column = 0; column < width; column += 1, from += 1, to += 1) if (stamp[from] > words[to] >>> 24) words[to] = (stamp[from] << 24) | colour;
        }
      }
    });
    this.layer.getContext("2d").putImageData(this.bitmap, 0, 0);
    this.pen.save();
    this.pen.setTransform(1, 0, 0, 1, 0, 0);
    this.pen.drawImage(this.layer, 0, 0);
    this.pen.restore();
  }

  // Ways of some particles through `frames` (arrays of points), up to frame `last` and on to `now`.
  ways(frames, last, now, bins, every) {
    const pen = this.pen;
    pen.lineWidth = 0.9;
    pen.globalAlpha = 0.5;
    bins.forEach((members, bin) => {
      pen.strokeStyle = tint(bin);
      pen.beginPath();
      for (const i of members) {
        if (i % every) continue;
        pen.moveTo(this.at(frames[0][2 * i]), this.at(-frames[0][2 * i + 1]));
        for (let k = 1; k <= last; k += 1) pen.lineTo(this.at(frames[k][2 * i]), this.at(-frames[k][2 * i + 1]));
        pen.lineTo(this.at(now[2 * i]), this.at(-now[2 * i + 1]));
      }
      pen.stroke();
    });
    pen.globalAlpha = 1;
  }

  // Where noise goes: exact paths, straight lines to the learned ends, and the gap between learned and exact ends.
  map({ paths, ends, exact }) {
    const pen = this.pen;
    const [first, last] = [paths[0], paths.at(-1)];
    for (let i = 0; i < first.length; i += 2) {
      const bin = hue(first[i], first[i + 1]);
      pen.lineWidth = 0.9;
      pen.strokeStyle = tint(bin, ends ? 0.42 : 0.5);
      pen.beginPath();
      pen.moveTo(this.at(first[i]), this.at(-first[i + 1]));
      if (exact || !ends) for (const row of paths) pen.lineTo(this.at(row[i]), this.at(-row[i + 1]));
      else pen.lineTo(this.at(ends[i]), this.at(-ends[i + 1]));
      pen.stroke();
      pen.beginPath();
      pen.arc(this.at(first[i]), this.at(-first[i + 1]), 1.6, 0, 6.2832);
      pen.stroke();
      if (!ends) continue;
      pen.strokeStyle = colour("--lcm-bad");
      pen.lineWidth = 1.3;
      pen.beginPath();
      pen.moveTo(this.at(ends[i]), this.at(-ends[i + 1]));
      pen.lineTo(this.at(last[i]), this.at(-last[i + 1]));
      pen.stroke();
    }
    const shown = ends || last;
    for (let i = 0; i < first.length; i += 2) {
      pen.fillStyle = tint(hue(first[i], first[i + 1]));
      pen.beginPath();
      pen.arc(this.at(shown[i]), this.at(-shown[i + 1]), 2.3, 0, 6.2832);
      pen.fill();
    }
  }
}

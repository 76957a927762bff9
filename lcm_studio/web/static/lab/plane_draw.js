// Drawing on the plane: densities, score arrows, particles, paths, and the map from noise to data.
// Everything is in the frame's coordinates, [-half, half] with y up, where a cloud of any noise level has the same spread.
import { colour, night } from "./parts.js";

const HUES = 24;

export const hue = (x, y) => Math.floor(((Math.atan2(y, x) / (2 * Math.PI) + 1) % 1) * HUES) % HUES;
export const tint = (bin, alpha = 1) => `hsl(${(bin * 360) / HUES + 8} ${night() ? "72% 66%" : "64% 42%"} / ${alpha})`;

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
    this.sheets = [];
  }

  // The picture of one level, in the page's colours.
  sheet(level) {
    const theme = night() ? "night" : "day";
    if (this.theme !== theme) [this.theme, this.sheets] = [theme, []];
    if (this.sheets[level]) return this.sheets[level];
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = this.pixels;
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(this.pixels, this.pixels);
    const [low, high] = night() ? [[21, 24, 31], [150, 98, 70]] : [[255, 253, 249], [133, 166, 189]];
    const start = level * this.pixels * this.pixels;
    for (let i = 0; i < this.pixels * this.pixels; i += 1) {
      const share = this.density[start + i] / 255;
      for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = low[c] + share * (high[c] - low[c]);
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    this.sheets[level] = canvas;
    return canvas;
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

  at(x) {
    return (x / this.half + 1) * 0.5 * this.side;
  }

  clear() {
    this.pen.globalAlpha = 1;
    this.pen.fillStyle = night() ? "rgb(21 24 31)" : "rgb(255 253 249)";
    this.pen.fillRect(0, 0, this.side, this.side);
  }

  // A zoom around the middle, for the frame that stands still.
  zoom(factor) {
    const middle = this.side / 2;
    this.pen.translate(middle, middle);
    this.pen.scale(factor, factor);
    this.pen.translate(-middle, -middle);
  }

  density(atlas, place) {
    const [level, share] = atlas.between(place);
    this.pen.imageSmoothingEnabled = true;
    this.pen.imageSmoothingQuality = "high";
    this.pen.globalAlpha = 1;
    this.pen.drawImage(atlas.sheet(level), 0, 0, this.side, this.side);
    this.pen.globalAlpha = share;
    this.pen.drawImage(atlas.sheet(level + 1), 0, 0, this.side, this.side);
    this.pen.globalAlpha = 1;
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

  particles(points, bins, size = 2.4, alpha = 0.85) {
    const pen = this.pen;
    pen.globalAlpha = alpha;
    const [k, middle, half] = [this.side / (2 * this.half), this.side / 2, size / 2];
    bins.forEach((members, bin) => {
      if (!members.length) return;
      pen.fillStyle = tint(bin);
      pen.beginPath();
      for (const i of members) {
        const [x, y] = [middle + points[2 * i] * k, middle - points[2 * i + 1] * k];
        pen.moveTo(x + half, y);
        pen.arc(x, y, half, 0, 6.2832);
      }
      pen.fill();
    });
    pen.globalAlpha = 1;
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

// What the views of the bench on pictures share: messages' pictures, strips, sheets and files.
import { h } from "../registry.js";
import { colour, figure, formula } from "./parts.js";
import { LabError, download, packed, post } from "./wire.js";

// The pictures of a message, as {blob, src}.
export function pictures({ body, sizes }, kind = "image/jpeg") {
  let at = 0;
  return sizes.map((size) => {
    const blob = new Blob([body.slice(at, at + size)], { type: kind });
    at += size;
    return { blob, src: URL.createObjectURL(blob) };
  });
}

export const img = (picture, alt, attrs = {}) => h("img", { src: picture.src, alt, draggable: false, ...attrs });

const SIGNS = [[/<-/g, "←"], [/sqrt/g, "√"], [/sigma/g, "σ"], [/alpha/g, "α"], [/epsilon/g, "ε"], [/x0_hat/g, "x̂_0"], [/eps_hat/g, "ε̂"], [/dσ/g, "dσ"], [/_t'/g, "_{t′}"], [/'/g, "′"], [/\^-(\w)/g, "^{−$1}"]];

// A formula of the core, which is plain ASCII, in the signs of the page.
export const pretty = (text) => SIGNS.reduce((now, [from, to]) => now.replace(from, to), text);

// sigma as a caption.
export const sigma = (value) => (value > 900 ? "∞" : figure(value));

// Rows of pictures that scroll together; `rows` are [label, ...] where a label is a node.
export class Strip {
  constructor(labels) {
    this.rows = labels.map(() => []);
    this.lines = labels.map((label) => h("div", { className: "lab-line" }, h("span", { className: "lab-line-name" }, label)));
    this.feet = h("div", { className: "lab-line lab-feet" }, h("span", { className: "lab-line-name" }));
    this.node = h("div", { className: "lab-strip" }, ...this.lines, this.feet);
  }

  add(shown, foot, alts) {
    shown.forEach((picture, row) => {
      this.rows[row].push(picture);
      this.lines[row].append(img(picture, alts?.[row] || foot, { title: foot }));
    });
    this.feet.append(h("span", {}, foot));
  }
}

// Pictures with words under them on one PNG.
export async function sheet(cells, columns = cells.length) {
  const side = 256;
  const [gap, foot] = [14, 44];
  const rows = Math.ceil(cells.length / columns);
  const canvas = h("canvas", { width: columns * (side + gap) + gap, height: rows * (side + foot + gap) + gap });
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour("--lcm-paper");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = colour("--lcm-ink");
  for (const [i, { picture, words }] of cells.entries()) {
    const [x, y] = [gap + (i % columns) * (side + gap), gap + Math.floor(i / columns) * (side + foot + gap)];
    const bitmap = await createImageBitmap(picture.blob);
    const scale = Math.min(side / bitmap.width, side / bitmap.height);
    pen.drawImage(bitmap, x + (side - bitmap.width * scale) / 2, y + (side - bitmap.height * scale) / 2, bitmap.width * scale, bitmap.height * scale);
    pen.font = "600 14px ui-sans-serif, system-ui, sans-serif";
    pen.fillText(words[0], x, y + side + 18, side);
    pen.font = "13px ui-sans-serif, system-ui, sans-serif";
    pen.fillText(words[1] || "", x, y + side + 36, side);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

// An animation from pictures that the page has.
export async function film(frames, name) {
  if (frames.length < 2) throw new LabError("There are no frames yet; run it first.");
  const body = new Blob(await Promise.all(frames.map(async (picture) => packed({}, await picture.blob.arrayBuffer()))));
  download(await (await post("gif", body)).blob(), name);
}

export const csv = (rows) => new Blob([rows.map((row) => row.map((cell) => (/[",\n]/.test(String(cell ?? "")) ? `"${String(cell).replaceAll('"', '""')}"` : cell ?? "")).join(",")).join("\n"), "\n"], { type: "text/csv" });

// Buttons that keep a run.
export function keep(note, actions) {
  const act = async (fn) => {
    note.say("");
    try {
      await fn();
    } catch (error) {
      note.say(error.message);
    }
  };
  return h("div", { className: "lab-tools lab-keep" }, ...Object.entries(actions).map(([text, [title, fn]]) => h("button", { type: "button", className: "lcm-tool", title, onclick: () => act(fn) }, text)));
}

export const noise = () => formula("x_t");
export const clean = () => formula("x̂_0");

// Charts by uPlot, which is served from the package (uplot/LICENSE); colours follow the page.
import { h, url } from "../registry.js";
import { colour, figure, onTheme } from "./theme.js";

const FONT = "11px ui-sans-serif, system-ui, sans-serif";
const HERE = "studio/static/chart/";
let loading = null;

function library() {
  loading ||= new Promise((resolve, reject) => {
    for (const sheet of ["uplot/uplot.min.css", "chart.css"]) document.head.append(h("link", { rel: "stylesheet", href: url(HERE + sheet) }));
    document.head.append(h("script", { src: url(`${HERE}uplot/uplot.min.js`), onload: () => resolve(window.uPlot), onerror: () => reject(new Error("uPlot")) }));
  });
  return loading;
}

// Round numbers of a logarithmic axis: powers of ten, with 2 and 5 between them where there is room.
function decades(low, high) {
  const steps = high / low > 300 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(3)));
  return ticks.filter((v) => v >= low * 0.999 && v <= high * 1.001);
}

// The value of a line at a place that it may have no point at: that of its nearest one.
function nearest(values, at) {
  for (let away = 0; away < values.length; away += 1) for (const i of [at - away, at + away]) if (values[i] !== null && values[i] !== undefined) return values[i];
  return null;
}

// One chart: `lines` are {label, colour (a CSS variable), dash, points, faint}; a faint line has no entry in the key. `draw(x, [y, ...])`;
// gaps are null. `zero`: a linear axis begins at 0. `tip`: values stand at the pointer, and not in the key.
export class Chart {
  constructor({ title, x, y, logX = false, logY = false, lines, height = 190, zero = true, tip = false }) {
    Object.assign(this, { x, y, logX, logY, lines, height, zero });
    this.place = h("div", { className: "lcm-plot" });
    this.key = h("div", { className: "lcm-key" });
    this.tip = tip ? h("div", { className: "lcm-tip", hidden: true }) : null;
    this.node = h("figure", { className: "lcm-chart" }, h("figcaption", {}, title), this.place, this.key);
    this.data = [[], ...lines.map(() => [])];
    onTheme(() => this.plot?.redraw(false));
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  label() {
    this.key.replaceChildren(...this.lines.filter((line, i) => !line.faint && this.data[i + 1].some((v) => v !== null)).map((line) => h("span", {}, h("i", { style: `background:var(${line.colour})`, className: line.dash ? "lcm-dashed" : "" }), line.label)));
  }

  async draw(x, ys) {
    this.data = [x, ...ys];
    this.label();
    const uPlot = await library();
    if (!this.place.clientWidth) return;
    if (!this.plot) this.make(uPlot);
    else this.plot.setData(this.data);
  }

  make(uPlot) {
    const axis = (label, log) => ({
      label: label || undefined, labelSize: label ? 18 : 0, labelGap: 2, labelFont: FONT, font: FONT, stroke: () => colour("--lcm-soft"),
      grid: { stroke: () => colour("--lcm-line"), width: 1 }, ticks: { show: false },
      ...(log ? { splits: (_u, _axis, low, high) => decades(low, high), filter: (_u, splits) => splits } : {}),
      values: (_, ticks) => ticks.map((v) => (v === null ? "" : String(Number(v.toPrecision(3))))),
    });
    const padded = (_u, low, high) => (low === null ? [0.01, 1] : [low / 1.25, high * 1.25]);
    const around = (_u, low, high) => uPlot.rangeNum(low ?? 0, high ?? 1, 0.08, true);
    const fromZero = (_u, _low, high) => [0, (high ?? 1) * 1.08 || 1];
    const wide = (_u, texts) => Math.max(42, 7 * Math.max(...(texts || [""]).map((text) => text.length)) + 14);
    this.plot = new uPlot(
      {
        width: this.place.clientWidth, height: this.height, legend: { show: false }, padding: [8, 14, 0, 0], cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
        scales: { x: this.logX ? { time: false, distr: 3, range: (_u, low, high) => (low === null ? [1, 10] : [low / 1.12, high * 1.12]) } : { time: false }, y: this.logY ? { distr: 3, range: padded } : { range: this.zero ? fromZero : around } },
        axes: [{ ...axis(this.x, this.logX), size: 26 }, { ...axis(this.y, this.logY), size: wide }],
        series: [{}, ...this.lines.map((line) => ({ label: line.label, stroke: () => colour(line.colour), alpha: line.faint ? 0.3 : 1, width: line.faint ? 1 : 2, dash: line.dash, spanGaps: true, points: { show: Boolean(line.points), size: 7, fill: () => colour(line.colour) } }))],
        hooks: { setCursor: [(u) => (this.tip ? this.point(u) : this.read(u))] },
      },
      this.data,
      this.place,
    );
    if (this.tip) this.plot.over.append(this.tip);
  }

  // The values under the pointer stand in the key.
  read(u) {
    const at = u.cursor.idx;
    if (at === null || at === undefined) {
      this.label();
      return;
    }
    const values = this.lines.map((line, i) => [line, this.data[i + 1][at]]).filter(([, v]) => v !== null && v !== undefined);
    this.key.replaceChildren(h("span", {}, `${this.x.split(" ")[0]} ${figure(this.data[0][at])}`), ...values.map(([line, v]) => h("span", {}, h("i", { style: `background:var(${line.colour})` }), figure(v))));
  }

  // They stand at the pointer, with the names of the lines, on the side where there is room.
  point(u) {
    const at = u.cursor.idx;
    this.tip.hidden = at === null || at === undefined;
    if (this.tip.hidden) return;
    const row = (line, i) => {
      const value = nearest(this.data[i + 1], at);
      return line.faint || value === null ? null : h("span", {}, h("i", { style: `background:var(${line.colour})` }), `${line.label} `, h("b", {}, Number(value.toPrecision(4)).toString()));
    };
    this.tip.replaceChildren(h("span", {}, `${this.x} ${this.data[0][at]}`), ...this.lines.map(row).filter(Boolean));
    const right = u.cursor.left > u.over.clientWidth / 2;
    this.tip.style.left = right ? "" : `${u.cursor.left + 12}px`;
    this.tip.style.right = right ? `${u.over.clientWidth - u.cursor.left + 12}px` : "";
  }

  fit() {
    const width = this.place.clientWidth;
    if (!width) return;
    if (this.plot && Math.abs(this.plot.width - width) > 1) this.plot.setSize({ width, height: this.height });
    else if (!this.plot && this.data[0].length) this.draw(this.data[0], this.data.slice(1));
  }
}

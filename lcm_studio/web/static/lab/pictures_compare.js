// One prompt and seed through several systems: final pictures, filmstrips, and quality against evaluations.
import { h } from "../registry.js";
import { Chart } from "../chart/chart.js";
import { card, chip, choice, figure, formula, noteplace, number, select } from "./parts.js";
import { Strip, csv, pretty, film, img, keep, pictures, sheet, noise, clean, sigma } from "./pictures_parts.js";
import { download, post } from "./wire.js";
import { Work } from "./work.js";

const COLOURS = ["--lab-a", "--lab-b", "--lab-c", "--lab-d", "--lab-e", "--lab-f"];
const FRAMES = 12;
const cost = (n) => `${n} evaluation${n === 1 ? "" : "s"}`;

export class Compare {
  constructor(schema, { conditions }) {
    Object.assign(this, { schema, conditions, results: [], points: [] });
    this.samplers = Object.fromEntries(schema.samplers.map((s) => [s.name, s]));
    this.models = Object.fromEntries(schema.models.map((m) => [m.id, m]));
    this.work = new Work("lab-pictures-", "Run", () => this.start(this.rows, FRAMES));
    this.rows = [];
    this.list = h("div", { className: "lab-systems" });
    this.words = h("p", { className: "lab-words" });
    this.counts = h("input", { type: "text", value: "4, 8, 16, 32", ariaLabel: "Evaluations of the sweep", title: "Evaluations, with commas" });
    this.more = h("button", { type: "button", className: "lcm-tool", onclick: () => this.add() }, "+ another");
    const presets = [
      ["Equal cost", (n) => [["sde", n], ["ode-heun", n - 1], ["dpmpp", n], ["consistency", 4]], "The reverse SDE and two solvers of the ODE with 16 evaluations of the teacher; its student, a consistency model, has four."],
      ["Few steps", () => [["ode-euler", 4], ["dpmpp", 4], ["consistency", 1], ["consistency", 4]], "Four evaluations and one: what solvers of the ODE make of them, and what distillation does."],
      ["Many steps", () => [["langevin", 200], ["pc", 50], ["sde", 50], ["ode-heun", 49]], "Where the story began: Langevin dynamics needs hundreds of evaluations, the reverse SDE tens. With 16 Langevin's picture would still be noise."],
      ["Solvers", (n) => [["ode-euler", n], ["ode-heun", n - 1], ["dpmpp", n], ["rk45", 64]], "One ODE, several solvers: the distance from its fine solution falls with the order."],
    ];
    this.side = [
      card("Samplers", h("div", { className: "lcm-chips" }, ...presets.map(([title, make, words]) => chip(title, () => this.preset(make(16), words)))), this.words, this.list, h("div", { className: "lab-tools" }, this.more),
        ...this.work.nodes),
      card("Sweep", h("p", {}, "Each of the samplers above at several numbers of evaluations; the points join the plot."), h("div", { className: "lab-tools" }, this.counts, h("button", { type: "button", className: "lcm-tool", id: "lab-sweep", onclick: () => this.sweep() }, "Sweep"))),
    ];
    this.row = h("div", { className: "lab-finals" });
    this.reference = h("p");
    this.films = h("div", { className: "lab-films" });
    this.measure = choice("Quality", [["distance", "distance to the ODE's end"], ["fd", "Fréchet distance"], ["agreement", "agreement"]], "distance", () => this.plot());
    this.place = h("div");
    this.source = h("p");
    this.keepNote = noteplace();
    this.keep = keep(this.keepNote, {
      PNG: ["The final pictures on one sheet", async () => download(await this.picture(), "lab.png")],
      GIF: ["The clean estimates of all systems, one after the other", () => film(this.strips.flatMap((s) => s?.rows[1] || []), "lab.gif")],
      CSV: ["Evaluations, seconds and distances", async () => download(csv(this.table()), "lab.csv")],
    });
    this.empty = h("div", { className: "lab-empty" }, h("h3", {}, "One prompt, one noise, several ways down"), h("p", {}, "Choose samplers and press Run: they start from the same noise, and you see what each sees and says at every evaluation."));
    this.node = h("div", { className: "lab-view" }, this.empty, this.row, this.reference, this.films, h("figure", { className: "lab-quality", hidden: true }, h("header", {}, h("h3", {}, "Quality against evaluations"), this.measure), this.place, this.source), this.keep, this.keepNote);
    this.quality = this.node.querySelector(".lab-quality");
    this.keep.hidden = true;
    this.strips = [];
    this.preset(presets[0][1](16), presets[0][2]);
    if (this.stored().length) {
      this.measure.set("fd");
      this.plot();
    }
  }

  model(sampler) {
    return this.samplers[sampler].score ? this.schema.default.teacher : this.schema.default.student;
  }

  preset(list, words) {
    this.words.textContent = words;
    this.rows = list.map(([sampler, evaluations]) => ({ sampler, evaluations, model: this.model(sampler), settings: {} }));
    this.drawRows();
  }

  add() {
    this.rows.push({ sampler: "ode-euler", evaluations: 16, model: this.model("ode-euler"), settings: {} });
    this.drawRows();
  }

  drawRows() {
    this.list.replaceChildren(...this.rows.map((row, i) => this.drawRow(row, i)));
    this.more.disabled = this.rows.length >= this.schema.limits.systems;
  }

  drawRow(row, i) {
    const info = this.samplers[row.sampler];
    const sampler = select("Sampler", this.schema.samplers.map((s) => [s.name, s.title]), row.sampler, (name) => {
      Object.assign(row, { sampler: name, settings: {} });
      if (this.samplers[name].score && this.models[row.model]?.consistency) row.model = this.model(name);
      this.drawRows();
    });
    const model = select("Model", this.schema.models.map((m) => [m.id, m.id]), row.model, (id) => (row.model = id));
    const evaluations = number("Evaluations", row.evaluations, { low: info.least, high: this.schema.limits.evaluations, title: "Network evaluations at most", onchange: (v) => (row.evaluations = v) });
    const away = h("button", { type: "button", className: "lab-away", ariaLabel: `Take away ${info.title}`, title: "Take away", disabled: this.rows.length < 2, onclick: () => { this.rows.splice(i, 1); this.drawRows(); } }, "×");
    const fields = info.settings.map((s) => h("label", { title: s.help }, s.title, this.setting(row, s)));
    return h("div", { className: "lab-system lab-system-wide" }, h("div", {}, sampler, model, evaluations, away), fields.length ? h("details", {}, h("summary", {}, formula(pretty(info.formula))), h("div", { className: "lab-fields" }, ...fields)) : null);
  }

  setting(row, s) {
    const put = (value) => (row.settings[s.name] = value);
    const now = row.settings[s.name] ?? s.default;
    if (s.choices.length) return select(s.title, s.choices.map((c) => [c, c]), now, put);
    if (typeof s.default === "boolean") return h("input", { type: "checkbox", checked: now, onchange: (e) => put(e.target.checked) });
    return number(s.title, now, { low: s.low, high: s.high, step: s.whole ? 1 : "any", onchange: put });
  }

  sweep() {
    const counts = [...new Set(this.counts.value.split(/[\s,;]+/).filter(Boolean).map(Number))];
    const most = this.schema.limits.evaluations;
    if (!counts.length || counts.some((n) => !Number.isInteger(n) || n < 1 || n > most)) {
      this.work.note.say(`The sweep needs whole numbers from 1 to ${most} with commas between them, such as 4, 8, 16.`);
      return;
    }
    const kinds = new Map(this.rows.map((r) => [`${r.model} ${r.sampler} ${JSON.stringify(r.settings)}`, r]));
    const systems = [...kinds.values()].flatMap((row) => counts.filter((n) => n >= this.samplers[row.sampler].least).map((evaluations) => ({ ...row, evaluations })));
    if (systems.length > this.schema.limits.sweep) {
      this.work.note.say(`${systems.length} runs are too many for one sweep; choose at most ${this.schema.limits.sweep}.`);
      return;
    }
    this.start(systems, 0);
  }

  async start(systems, frames) {
    const signal = this.work.begin();
    const list = systems.map((row) => ({ ...row }));
    if (frames) this.clear(list);
    let current = 0;
    const body = { ...this.conditions(), systems: list, frames, reference: true };
    await this.work.follow(post("pictures/compare", body, signal), signal, (message) => {
      if (message.kind === "frame") current = message.system;
      if (message.kind === "result") current = message.system + 1;
      if (message.kind === "progress") {
        const number = Math.min(current, list.length - 1);
        this.work.progress.show((number + message.share) / list.length, `${this.samplers[list[number].sampler].title}: ${message.text}`);
      } else this[message.kind]?.(message, list, frames);
    });
  }

  // The panels of a run with filmstrips; what a sweep makes joins the plot alone.
  clear(list) {
    this.empty.hidden = true;
    this.keep.hidden = false;
    this.results = [];
    this.reference.replaceChildren();
    this.strips = list.map(() => null);
    this.cells = list.map((row) => {
      const cell = h("figure", { className: "lab-final" }, h("div", { className: "lab-blank" }), h("figcaption", {}, h("strong", {}, this.samplers[row.sampler].title), h("span", {}, "waiting")));
      return cell;
    });
    this.row.replaceChildren(...this.cells);
    this.films.replaceChildren();
  }

  frame(message, list) {
    const i = message.system;
    if (!this.strips[i]) {
      this.strips[i] = new Strip([noise(), clean()]);
      this.films.append(h("figure", { className: "lab-film" }, h("header", {}, h("strong", {}, this.samplers[list[i].sampler].title), h("span", { className: "lab-count" }, `${list[i].model}, ${cost(list[i].evaluations)}`)), this.strips[i].node));
    }
    const foot = `σ ${sigma(message.sigma)}`;
    this.strips[i].add(pictures(message), foot, [`noisy sample at ${foot}`, `clean estimate at ${foot}`]);
  }

  result(message, list, frames) {
    const row = list[message.system];
    if (message.distance !== null && message.distance !== undefined) {
      if (!this.points.length) this.measure.set("distance"); // the first run of this page is what one looks for
      this.points.push({ name: this.name(row), evaluations: message.evaluations, distance: message.distance });
    }
    if (!frames && message.error) this.work.note.say(message.error);
    this.plot();
    if (!frames) return;
    const [picture] = pictures(message, "image/png");
    this.results[message.system] = { ...message, row, picture };
    const cell = this.cells[message.system];
    if (!picture) {
      cell.replaceChildren(h("div", { className: "lab-blank" }), h("figcaption", {}, h("strong", {}, this.samplers[row.sampler].title), h("span", { className: "lab-bad" }, message.error)));
      return;
    }
    const words = [cost(message.evaluations), `${message.seconds.toFixed(2)} s`];
    cell.replaceChildren(img(picture, `${message.label}: final picture`), h("figcaption", {}, h("strong", {}, this.samplers[row.sampler].title), h("span", {}, words.join(" · ")), h("span", {}, row.model), message.distance === null ? null : h("span", { title: "Root mean square difference from the fine solution of the teacher's ODE from the same noise, in levels of 255" }, "from the ODE's end ", h("b", {}, figure(message.distance))), ...message.warnings.map((w) => h("span", { className: "lab-warn" }, w))));
  }

  compared(message, list, frames) {
    if (!frames) return;
    const shown = pictures(message, "image/png");
    this.reference.replaceChildren(...message.references.flatMap(([model, count], i) => [img(shown[i], "fine solution of the ODE", { className: "lab-mini" }), h("span", {}, `The probability-flow ODE of ${model} solved finely (RK45, ${count} evaluations) from the same noise: what distances are measured from.`)]));
  }

  stopped() {
    this.work.note.say("Stopped; what was finished stays.", "info");
  }

  name(row) {
    return this.samplers[row.sampler].title + (row.model === this.model(row.sampler) ? "" : ` (${row.model})`);
  }

  stored() {
    return (this.schema.stored.rows || []).map((r) => ({ ...r, name: (this.samplers[r.sampler]?.title || r.sampler) + (r.model === this.model(r.sampler in this.samplers ? r.sampler : "consistency") ? "" : ` (${r.model})`) }));
  }

  plot() {
    const measure = this.measure.value;
    const rows = measure === "distance" ? this.points : this.stored().filter((r) => typeof r[measure] === "number");
    const usable = this.points.length || this.stored().length;
    this.quality.hidden = !usable;
    this.measure.hidden = !this.stored().length;
    this.source.textContent = measure === "distance"
      ? "From the runs on this page: root mean square difference from the fine solution of the ODE, in levels of 255. Samplers with fresh noise go elsewhere by design and have no such distance."
      : `From stored results over ${this.schema.stored.captions ?? "many"} captions (docs/results): ${measure === "fd" ? "lower is better" : "share of what the prompt asks for that is in the picture; higher is better"}.`;
    const names = [...new Set(rows.map((r) => r.name))];
    const counts = [...new Set(rows.map((r) => r.evaluations))].sort((a, b) => a - b);
    const means = names.map((name) => counts.map((n) => {
      const values = rows.filter((r) => r.name === name && r.evaluations === n).map((r) => r[measure]);
      return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
    }));
    const key = `${measure} ${names.join()}`;
    if (key !== this.plotted) {
      this.plotted = key;
      this.chart = new Chart({ title: "", x: "evaluations", y: measure === "distance" ? "distance of 255" : measure === "fd" ? "Fréchet distance" : "agreement", logX: true, logY: measure !== "agreement", height: 260, lines: names.map((label, i) => ({ label, colour: COLOURS[i % COLOURS.length], dash: i >= COLOURS.length ? [5, 4] : undefined, points: true })) });
      this.place.replaceChildren(this.chart.node);
    }
    this.chart.draw(counts, means);
    this.quality.dataset.points = rows.length;
  }

  picture() {
    const cells = this.results.filter((r) => r?.picture).map((r) => ({ picture: r.picture, words: [this.samplers[r.row.sampler].title, `${cost(r.evaluations)}, ${r.seconds.toFixed(2)} s`] }));
    return sheet(cells, Math.min(4, cells.length));
  }

  table() {
    const { prompt, seed } = this.conditions();
    return [["prompt", "seed", "model", "sampler", "evaluations", "seconds", "distance", "error"], ...this.results.filter(Boolean).map((r) => [prompt, seed, r.row.model, r.row.sampler, r.evaluations, r.seconds, r.distance, r.error]), ...this.points.map((p) => [prompt, seed, "", p.name, p.evaluations, "", p.distance, ""])];
  }

  write(address) {
    address.set("sweep", this.counts.value);
    for (const row of this.rows) address.append("s", [row.model, row.sampler, row.evaluations, ...Object.entries(row.settings).map(([k, v]) => `${k}=${v}`)].join("|"));
  }

  read(address) {
    if (address.has("sweep")) this.counts.value = address.get("sweep");
    const rows = address.getAll("s").map((text) => {
      const [model, sampler, evaluations, ...rest] = text.split("|");
      if (!this.samplers[sampler]) return null;
      const settings = Object.fromEntries(rest.map((r) => r.split("=")).map(([k, v]) => [k, v === "true" ? true : v === "false" ? false : Number.isNaN(Number(v)) ? v : Number(v)]));
      return { model, sampler, evaluations: Number(evaluations) || 16, settings };
    });
    if (!rows.filter(Boolean).length) return;
    this.words.textContent = "";
    this.rows = rows.filter(Boolean).slice(0, this.schema.limits.systems);
    this.drawRows();
  }
}

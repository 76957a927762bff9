// Networks that learn the plane while one watches: their losses, errors, and the map from noise to data.
import { h } from "../registry.js";
import { Chart } from "../chart/chart.js";
import { card, choice, figure, formula, noteplace, number, onTheme, progress } from "./parts.js";
import { Sheet } from "./plane_draw.js";
import { Latest, messages, post } from "./wire.js";

const STAGES = {
  score: { title: "Score", long: "Score network", formula: "D(x_0 + t z; t) ≈ x_0,   s = (D − x_t)/t^2", words: "Denoising score matching: it is shown noised points and learns what they were. Its mean guess is the score." },
  cd: { title: "CD", long: "Consistency distillation", formula: 'f(x_t, t) ≈ f(x_{t′}, t′),   x_{t′} "by a Heun step of the score"', words: "Two neighbours on one path of the ODE must be sent to the same end. The score network draws the path." },
  ct: { title: "CT", long: "Consistency training", formula: 'f(x_0 + t z, t) ≈ f(x_0 + t′ z, t′),   "the same" z', words: "The same without a teacher: the neighbour is the same point with less of the same noise." },
};

export class Learn {
  constructor(schema, { data, seed, onarrows, onnetworks }) {
    Object.assign(this, { schema, data, seed, onarrows, onnetworks, networks: {}, curves: {}, ends: {}, losses: {} });
    this.latest = new Latest();
    this.note = noteplace();
    this.progress = progress();
    this.steps = number("Training steps", "", { low: 1, high: schema.limits.steps, step: 100, title: "Training steps of the next network; empty: as many as serve well. More take longer and err less" });
    this.steps.placeholder = "usual";
    this.rows = Object.fromEntries(Object.entries(STAGES).map(([name, stage]) => [name, this.row(name, stage)]));
    this.card = card("2 · Networks", h("div", { className: "lab-stages" }, ...Object.values(this.rows).map((r) => r.node)), h("div", { className: "lab-fields" }, h("label", {}, "Training steps", this.steps)), this.progress, this.note);
    this.map = h("canvas", { className: "lab-sheet lab-map", role: "img", ariaLabel: "The map from noise to data" });
    this.sheet = new Sheet(this.map, 1.6);
    this.which = choice("Whose map", [["exact", "exact paths"], ["cd", "CD"], ["ct", "CT"], ["score", "score network"]], "exact", () => this.drawMap());
    this.mapWords = h("p");
    this.consistency = new Chart({ title: [h("b", {}, "Self-consistency"), "  ", formula("| f(x_t, t) − f(x_T, T) |"), " along exact paths"], x: "t", y: "distance", logX: true, lines: [
      { label: "CD", colour: "--lab-a" }, { label: "CT", colour: "--lab-b" }, { label: "score network's one-step estimate", colour: "--lab-d" },
      { label: "CD before", colour: "--lab-a", dash: [3, 4] }, { label: "CT before", colour: "--lab-b", dash: [3, 4] }] });
    this.scores = new Chart({ title: [h("b", {}, "Error of the score"), "  ", formula("| s − s^∗ | / | s^∗ |"), " (∗: exact)"], x: "t", y: "relative", logX: true, logY: true, lines: [{ label: "now", colour: "--lab-d" }, { label: "first report", colour: "--lab-d", dash: [3, 4] }] });
    this.loss = new Chart({ title: [h("b", {}, "Loss")], x: "step", y: "loss", logY: true, lines: [{ label: "score", colour: "--lab-d" }, { label: "CD", colour: "--lab-a" }, { label: "CT", colour: "--lab-b" }] });
    this.node = h("section", { className: "lab-learned", hidden: true },
      h("h3", {}, "What the networks have learned"),
      h("div", { className: "lab-learned-grid" },
        h("figure", { className: "lab-panel" }, h("header", {}, h("strong", {}, "Noise to data"), this.which), this.map, h("figcaption", {}, this.mapWords), this.loss.node),
        h("div", { className: "lab-charts" }, this.scores.node, this.consistency.node)));
    onTheme(() => this.drawMap());
    new ResizeObserver(() => this.drawMap()).observe(this.map);
    this.clear();
  }

  row(name, stage) {
    const error = h("span", { className: "lab-count", title: name === "score" ? "Relative error of the score, the mean over all levels" : "Root mean square distance of f(x_T, T) from where the exact path ends" });
    const button = h("button", { type: "button", className: "lcm-tool", id: `lab-train-${name}`, onclick: () => this.train(name) }, "Train");
    const node = h("div", { className: "lab-stage", "data-stage": name }, h("div", {}, h("strong", {}, stage.long), error, button), formula(stage.formula), h("p", {}, stage.words));
    return { node, error, button };
  }

  // Another distribution: what was learned is of no use.
  clear() {
    this.halt();
    Object.assign(this, { networks: {}, curves: {}, first: {}, ends: {}, losses: {}, paths: null });
    for (const [name, row] of Object.entries(this.rows)) {
      row.error.textContent = "";
      row.button.textContent = "Train";
      row.button.disabled = name !== "score";
      row.button.title = name === "score" ? "" : "Train the score network first: CD follows its paths, and both begin with its weights";
    }
    this.node.hidden = true;
    this.note.say("");
    this.onarrows?.(null);
    this.onnetworks?.(this.networks);
  }

  halt() {
    this.latest.stop();
    this.progress.show(null);
    this.running = null;
  }

  async train(stage) {
    if (this.running) {
      const same = this.running === stage;
      this.halt();
      this.settle();
      if (same) return;
    }
    this.note.say("");
    this.running = stage;
    this.rows[stage].button.textContent = "Stop";
    this.node.hidden = false;
    this.losses[stage] = [[], []];
    this.first[stage] = null;
    this.which.set(stage === "score" ? "score" : stage);
    this.progress.show(0, "starting");
    const signal = this.latest.start();
    const networks = stage === "score" || !this.networks.score ? {} : { score: this.networks.score };
    try {
      const answer = await post("plane/train", { data: this.data(), stage, steps: this.steps.value === "" ? null : Number(this.steps.value), seed: this.seed(), networks }, signal);
      for await (const message of messages(answer)) if (!signal.aborted) this.take(message);
    } catch (error) {
      if (error.name !== "AbortError") this.note.say(error.message);
    }
    if (signal.aborted) return;
    this.halt();
    this.settle();
  }

  settle() {
    for (const [name, row] of Object.entries(this.rows)) {
      row.button.textContent = this.networks[name] ? "Train again" : "Train";
      row.button.disabled = name !== "score" && !this.networks.score;
      if (!row.button.disabled) row.button.title = "";
    }
    this.onnetworks?.(this.networks);
  }

  take(message) {
    if (message.kind === "lines") {
      const all = new Int16Array(message.body);
      const size = 2 * message.lines;
      this.paths = message.levels.map((_, i) => Float32Array.from(all.subarray(i * size, (i + 1) * size), (v) => v / 8000));
      this.drawMap();
      return;
    }
    const { stage, curve, arrows, body } = message;
    this.networks[stage] = message.network;
    this.curves[stage] = curve;
    this.first[stage] ||= curve;
    if (message.teacher) this.curves.teacher = message.teacher;
    this.losses[stage][0].push(message.step);
    this.losses[stage][1].push(message.loss);
    if (arrows) this.onarrows?.(new Int16Array(body.slice(0, arrows)));
    this.ends[stage] = Float32Array.from(new Int16Array(body.slice(arrows)), (v) => v / 8000);
    this.rows[stage].error.textContent = stage === "score" ? `relative error ${figure(message.error)}` : `error ${figure(message.error)}`;
    this.rows[stage].node.dataset.error = message.error;
    this.progress.show(message.step / message.steps, `${STAGES[stage].title}: step ${message.step} of ${message.steps}${message.levels ? ` · ${message.levels} levels` : ""}`);
    this.drawMap();
    this.drawCharts();
  }

  drawCharts() {
    const { score, cd, ct, teacher } = this.curves;
    if (score) this.scores.draw(score.map((r) => r[0]).reverse(), [score, this.first.score].map((c) => c.map((r) => r[1]).reverse()));
    this.consistency.node.hidden = !teacher && !cd && !ct;
    const any = cd || ct || teacher;
    if (any) {
      const rows = [cd, ct, teacher, this.first.cd, this.first.ct].map((c) => (c ? c.map((r) => r[1]).reverse() : any.map(() => null)));
      this.consistency.draw(any.map((r) => r[0]).reverse(), rows);
    }
    const steps = [...new Set(Object.values(this.losses).flatMap((l) => l[0]))].sort((a, b) => a - b);
    const lines = ["score", "cd", "ct"].map((name) => {
      const at = new Map((this.losses[name]?.[0] || []).map((step, i) => [step, this.losses[name][1][i]]));
      return steps.map((step) => at.get(step) ?? null);
    });
    this.loss.draw(steps, lines);
  }

  drawMap() {
    if (!this.paths || !this.sheet.fit()) return;
    const name = this.which.value;
    this.sheet.clear();
    const ends = name === "exact" ? null : this.ends[name];
    this.sheet.map({ paths: this.paths, ends, exact: name === "exact" });
    this.map.dataset.map = ends ? name : "exact";
    const red = "Red: the gap to where the exact path ends.";
    this.mapWords.textContent =
      name === "score" ? `From pure noise a denoiser sees only the mean of the data: its one step sends all there. ${red}`
      : ends ? `Each point of noise (ring) and where one evaluation sends it (dot). ${red}`
      : name === "exact" ? "The paths of the probability-flow ODE: from each point of noise one path, and no two cross. A consistency function jumps to its end." : "Not trained yet: here are the exact paths.";
  }

  // For the file of the run.
  table() {
    const rows = ["stage,t,error,to_path_end"];
    for (const [name, curve] of Object.entries(this.curves)) for (const row of curve) rows.push([name, ...row].join(","));
    return rows.join("\n");
  }
}

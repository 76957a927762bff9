// The bench on the plane: data, networks, samplers side by side; the settings are in the page's address.
import { h } from "../registry.js";
import { card, chip, noteplace, number, select } from "./parts.js";
import { film } from "./pictures_parts.js";
import { Data } from "./plane_data.js";
import { Atlas } from "./plane_draw.js";
import { Learn } from "./plane_learn.js";
import { Player } from "./plane_player.js";
import { Latest, download, messages, post } from "./wire.js";
import { Work } from "./work.js";

const EXPERIMENTS = [
  { title: "Four ways down", systems: ["langevin:201", "sde:50", "ode-heun:21", "consistency:1"], words: "Langevin and the reverse SDE shake the particles: the colours of the noise mix. The ODE and the consistency function do not: where a particle ends follows from where it starts. Set the clock to evaluations to see who is ready first." },
  { title: "Orders of solvers", systems: ["ode-euler:9", "ode-heun:9", "dpmpp:9", "rk45:200"], words: "One ODE, nine evaluations for three solvers; compare the distances from the exact ends. Give them 18: the error of Euler halves, that of the second-order ones falls to a quarter. RK45 spends what its tolerance asks for." },
  { title: "Where Langevin fails", data: "pair", systems: ["langevin:201:levels=3", "langevin:201:levels=10", "langevin:961:levels=30", "ode-heun:21"], words: "The right heap has a fifth of the points. With few levels a particle falls into the heap that is near before the noise has told it which is fuller, and no particle crosses later: the shares come out wrong. More levels and steps mend it; the ODE is right with a twentieth of the work." },
  { title: "One step, two, four", systems: ["consistency:1", "consistency:2", "consistency:4", "ode-euler:4"], words: "Each further step adds noise again and jumps from a lower level: with a trained network it repairs what the first jump blurred. Four Euler steps of the ODE, beside it, cut every corner." },
];

export class Plane {
  constructor(schema, { onlink }) {
    this.schema = schema;
    this.onlink = onlink;
    this.info = Object.fromEntries(schema.samplers.map((s) => [s.name, s]));
    this.rows = [];
    this.learnedNow = {};
    this.atlasCall = new Latest();
    this.work = new Work("lab-", "Run", () => this.sample(), () => this.halt());
    this.data = new Data(schema, { onchange: () => (this.opening = this.changed()) });
    this.player = new Player(schema, {});
    this.learn = new Learn(schema, { data: () => this.data.value, seed: () => this.seedValue(), onarrows: (a) => this.player.setLearned(a), onnetworks: (n) => this.trained(n) });
    this.words = h("p", { className: "lab-words lab-experiment" });
    this.list = h("div", { className: "lab-systems" });
    this.particles = number("Particles", 2000, { low: 100, high: schema.limits.particles, step: 100 });
    this.seed = number("Seed", 0, { low: 0, high: schema.limits.seed });
    this.more = h("button", { type: "button", className: "lcm-tool", onclick: () => this.add() }, "+ another");
    this.forward = h("button", { type: "button", className: "lcm-tool", title: "Back to data and noise", onclick: () => this.showForward() }, "Adding noise");
    const tool = (text, title, act) => h("button", { type: "button", className: "lcm-tool", title, onclick: act }, text);
    this.saved = noteplace();
    this.side = h("div", { className: "lab-side" },
      this.data.card,
      this.learn.card,
      card("3 · Samplers",
        h("div", { className: "lcm-chips lab-experiments" }, ...EXPERIMENTS.map((e) => chip(e.title, () => this.experiment(e)))),
        this.words, this.list,
        h("div", { className: "lab-tools" }, this.more, this.forward),
        h("div", { className: "lab-fields" }, h("label", {}, "Particles", this.particles), h("label", {}, "Seed", this.seed)),
        ...this.work.nodes),
      card("Keep", h("div", { className: "lab-tools" }, tool("PNG", "The panels as they are now", () => this.savePicture()), tool("GIF", "The whole run as an animation", () => this.saveFilm()), tool("CSV", "Where the particles end, and the curves of the networks", () => this.saveTable()), tool("Link", "Copy an address that brings these settings back", () => this.link())), this.saved));
    this.view = h("div", { className: "lab-view" }, this.player.node, this.learn.node);
    this.node = h("div", { className: "lab-split" }, this.view, this.side);
  }

  seedValue() {
    return Number(this.seed.value);
  }

  // First visit, or a link.
  start(settings) {
    this.experiment(EXPERIMENTS[0], { run: false, data: false });
    if (settings.has("data")) this.data.read(settings.get("data"));
    if (settings.has("n")) this.particles.value = settings.get("n");
    if (settings.has("seed")) this.seed.value = settings.get("seed");
    const systems = settings.getAll("s");
    if (systems.length) {
      this.setRows(systems.map((text) => this.parse(text)).filter(Boolean));
      this.words.textContent = "";
    }
    this.opening = this.changed();
    if (systems.length && !systems.some((s) => /:(score|cd|ct)(:|$)/.test(s))) this.sample();
  }

  // "sampler:evaluations[:network][:setting=value...]"
  parse(text) {
    const [sampler, evaluations, ...rest] = text.split(":");
    if (!this.info[sampler]) return null;
    const settings = Object.fromEntries(rest.filter((r) => r.includes("=")).map((r) => r.split("=")).map(([k, v]) => [k, Number(v)]));
    return { sampler, evaluations: Number(evaluations) || this.info[sampler].usual, network: rest.find((r) => !r.includes("=")) || "", settings };
  }

  experiment(e, { run = true, data = true } = {}) {
    this.words.textContent = e.words;
    const rows = e.systems.map((text) => this.parse(text));
    for (const row of rows) row.network = "";
    this.setRows(rows);
    if (data && e.data && this.data.value.name !== e.data) this.data.choose({ name: e.data });
    if (run) this.sample();
  }

  setRows(systems) {
    this.rows = systems.slice(0, this.schema.limits.systems);
    this.drawRows();
  }

  add() {
    this.rows.push({ sampler: "ode-euler", evaluations: 20, network: "", settings: {} });
    this.drawRows();
  }

  // "" = the best there is: a learned network where one fits, else the exact answer.
  networks(row) {
    const fitting = this.info[row.sampler].consistency ? [["cd", "CD network"], ["ct", "CT network"]] : [["score", "score network"]];
    return [["exact", this.info[row.sampler].consistency ? "exact map" : "exact score"], ...fitting.filter(([name]) => this.learnedNow[name])];
  }

  drawRows() {
    this.list.replaceChildren(...this.rows.map((row, i) => this.drawRow(row, i)));
    this.more.disabled = this.rows.length >= this.schema.limits.systems;
  }

  drawRow(row, i) {
    const info = this.info[row.sampler];
    const networks = this.networks(row);
    if (!networks.some(([name]) => name === row.network)) row.network = networks.at(row.network === "exact" ? 0 : Math.min(1, networks.length - 1))[0];
    const sampler = select("Sampler", this.schema.samplers.map((s) => [s.name, s.title]), row.sampler, (name) => {
      Object.assign(row, { sampler: name, evaluations: this.info[name].usual, network: "", settings: {} });
      this.drawRows();
    });
    const evaluations = number("Evaluations", row.evaluations, { low: info.least, high: this.schema.limits.evaluations, title: "Network evaluations for each particle", onchange: (v) => (row.evaluations = v) });
    const network = select("Whose answers", networks, row.network, (name) => (row.network = name));
    const away = h("button", { type: "button", className: "lab-away", title: "Take away", ariaLabel: `Take away ${info.title}`, disabled: this.rows.length < 2, onclick: () => { this.rows.splice(i, 1); this.drawRows(); } }, "×");
    const settings = info.settings.map((s) => h("label", { title: s.help }, s.title, number(s.title, row.settings[s.name] ?? s.default, { low: s.low, high: s.high, step: s.whole ? 1 : "any", onchange: (v) => (row.settings[s.name] = v) })));
    return h("div", { className: "lab-system", "data-sampler": row.sampler }, h("div", {}, sampler, evaluations, network, away), settings.length ? h("div", { className: "lab-fields" }, ...settings) : null);
  }

  trained(networks) {
    const before = Object.keys(this.learnedNow).length;
    this.learnedNow = { ...networks };
    if (Object.keys(networks).length > before) for (const row of this.rows) row.network = "";
    if (this.list) this.drawRows();
  }

  // Another distribution.
  async changed() {
    this.halt();
    this.learn.clear();
    this.player.set([]);
    const signal = this.atlasCall.start();
    try {
      for await (const message of messages(await post("plane/atlas", { data: this.data.value, seed: this.seedValue() }, signal))) this.player.setAtlas(new Atlas(message));
      this.node.dataset.ready = this.data.value.name || this.data.value.kind;
    } catch (error) {
      if (error.name !== "AbortError") this.data.note.say(error.message);
    }
  }

  showForward() {
    this.halt();
    this.player.set([]);
    this.player.move(0.62);
  }

  body() {
    return { data: this.data.value, systems: this.rows, particles: Number(this.particles.value), seed: this.seedValue(), networks: this.learnedNow };
  }

  async sample() {
    const signal = this.work.begin();
    const rows = this.rows.map((row) => ({ ...row }));
    const total = rows.reduce((sum, row) => sum + row.evaluations, 0);
    const used = rows.map(() => 0);
    let set = false;
    await this.opening; // frames are drawn on the atlas of their distribution
    if (signal.aborted) return;
    const done = await this.work.follow(post("plane/sample", this.body(), signal), signal, (message) => {
      if (!set) {
        this.player.set(rows.map((row) => [row, this.info[row.sampler]]));
        set = true;
      }
      used[message.system] = message.evaluations;
      const spent = used.reduce((a, b) => a + b, 0);
      this.work.progress.show(Math.min(1, spent / total), `${spent} evaluations, ${this.info[rows[message.system].sampler].title}`);
      this.player[message.kind](message);
    });
    if (!done) return;
    this.node.dataset.runs = Number(this.node.dataset.runs || 0) + 1;
    this.player.at = 0;
    this.player.play();
  }

  // What has been computed stays and can be played.
  halt() {
    this.work.halt();
    for (const panel of this.player.panels) {
      if (panel.computing) panel.spread();
      panel.computing = false;
    }
    this.player.draw();
  }

  address() {
    const settings = new URLSearchParams({ bench: "plane", data: this.data.text(), n: this.particles.value, seed: this.seed.value });
    for (const row of this.rows) settings.append("s", [row.sampler, row.evaluations, row.network, ...Object.entries(row.settings).map(([k, v]) => `${k}=${v}`)].join(":"));
    return settings;
  }

  async link() {
    const address = this.onlink(this.address());
    try {
      await navigator.clipboard.writeText(address);
      this.saved.say("The link is copied; the address bar has it too.", "info");
    } catch {
      this.saved.say("The address bar has the link.", "info");
    }
  }

  async savePicture() {
    download(await this.player.picture(), "plane.png");
  }

  saveTable() {
    const table = this.player.table();
    const learned = this.learn.table();
    download(new Blob([table, "\n\n", learned, "\n"], { type: "text/csv" }), "plane.csv");
  }

  async saveFilm() {
    this.saved.say("Drawing the animation …", "info");
    try {
      await film(await this.player.film(), "plane.gif");
      this.saved.say("");
    } catch (error) {
      this.saved.say(error.message);
    }
  }
}

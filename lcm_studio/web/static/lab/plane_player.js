// The panels of the plane and the clock they share: play, pause, step, scrub.
import { h } from "../registry.js";
import { check, choice, colour, figure, formula, night, onTheme } from "./parts.js";
import { Backdrops, Levels, Sheet, tinted } from "./plane_draw.js";

const WHOSE = { exact: "exact", score: "score network", cd: "CD network", ct: "CT network" };
const SECONDS = 5; // from noise to data

// One sampler's frames as they come, or the forward process where there is none.
class Panel {
  constructor(system, info, half) {
    Object.assign(this, { system, info, frames: [], times: [], levels: [], evaluations: [] });
    this.canvas = h("canvas", { className: "lab-sheet", role: "img", ariaLabel: system ? `${info.title}: particles` : "Data and noise" });
    this.sheet = new Sheet(this.canvas, half);
    this.count = h("span", { className: "lab-count" });
    this.result = h("p", { className: "lab-result" });
    const title = system ? info.title : "Adding noise";
    const text = system ? info.formula : "x_t = x_0 + t z,   z ~ N(0, I)";
    const words = system ? info.words : "Each point of the data is moved by noise of level t. At the left of the slider nothing of the data can be seen: there every sampler starts.";
    this.node = h("figure", { className: "lab-panel", "data-sampler": system?.sampler || "forward" }, h("header", {}, h("strong", {}, title), this.count), this.canvas, h("figcaption", {}, formula(text), h("p", {}, words), this.result));
  }

  take(message) {
    const points = new Int16Array(message.body);
    const frame = new Float32Array(points.length);
    for (let i = 0; i < points.length; i += 1) frame[i] = points[i] / this.fine;
    this.frames.push(frame);
    this.levels.push(message.t);
    this.times.push(message.clock);
    this.evaluations.push(message.evaluations);
    if (this.frames.length === 1) this.bins = tinted(frame);
    this.now = frame;
  }

  // Steps at one level share the time until the next one.
  spread() {
    const times = this.times;
    for (let start = 0; start < times.length; ) {
      let end = start;
      while (end + 1 < times.length && times[end + 1] <= times[start]) end += 1;
      const until = end + 1 < times.length ? times[end + 1] : 1;
      const from = times[start];
      for (let k = start; k <= end; k += 1) times[k] = from + ((until - from) * (k - start)) / (end - start + 1);
      start = end + 1;
    }
  }

  // Frame before the moment, and the share of the way to the next one.
  moment(at, list) {
    let low = 0;
    let high = list.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (list[middle] <= at) low = middle;
      else high = middle - 1;
    }
    if (low === list.length - 1) return [low, 0];
    return [low, Math.min(Math.max((at - list[low]) / (list[low + 1] - list[low] || 1), 0), 1)];
  }
}

export class Player {
  constructor(schema, { onmove }) {
    this.schema = schema;
    this.levels = new Levels(schema.t, schema.rho, schema.sigma_data);
    this.onmove = onmove;
    this.panels = [];
    this.at = 0.62;
    this.clock = "level";
    this.show = { density: true, exact: true, learned: false, particles: true, ways: false, still: false };
    this.learned = null;
    this.backdrops = new Backdrops();
    this.grid = h("div", { className: "lab-panels" });
    this.slider = h("input", { type: "range", min: 0, max: 1000, step: 1, className: "lab-time", ariaLabel: "Time: from noise to data", oninput: () => this.scrub(this.slider.value / 1000) });
    this.button = h("button", { type: "button", className: "lab-play", id: "lab-play", ariaLabel: "Play", title: "Play or pause", onclick: () => this.toggle() });
    const tool = (text, title, act) => h("button", { type: "button", className: "lcm-tool", title, ariaLabel: title, onclick: act }, text);
    this.slider.value = Math.round(1000 * this.at);
    this.readout = h("output", { className: "lab-readout" });
    this.clocks = choice("Clock", [["level", "noise level", "All panels show the same noise level"], ["evaluations", "evaluations", "All panels have used as many evaluations: who is ready first?"]], "level", (name) => this.setClock(name));
    this.bar = h("div", { className: "lab-player" }, tool("|◂", "To the noise", () => this.scrub(0)), tool("◂", "One step back", () => this.step(-1)), this.button, tool("▸", "One step on", () => this.step(1)), this.slider, this.readout, this.clocks);
    this.layers = h("div", { className: "lab-layers" },
      check("density", true, (on) => this.layer("density", on), "p_t, brighter where points are likelier"),
      check("score", true, (on) => this.layer("exact", on), "Exact arrows t s(x, t): towards likelier places, as long as the noise seen there"),
      (this.learnedBox = check("learned score", false, (on) => this.layer("learned", on), "The arrows of the score network")),
      check("particles", true, (on) => this.layer("particles", on)),
      check("paths", false, (on) => this.layer("ways", on), "The way of some particles so far"),
      check("frame stands still", false, (on) => this.layer("still", on), "x_t as it is (variance exploding) instead of scaled to the same spread (variance preserving)"));
    this.learnedBox.hidden = true;
    this.node = h("div", { className: "lab-theatre" }, this.grid, this.bar, this.layers);
    onTheme(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.grid);
    this.grid.addEventListener("click", (event) => event.target.closest("canvas") && this.toggle());
    this.set([]);
  }

  layer(name, on) {
    this.show[name] = on;
    this.draw();
  }

  setClock(name) {
    const panel = this.panels[0];
    this.clock = name;
    this.clocks.set(name);
    this.scrub(panel?.system ? 0 : this.at);
  }

  // New panels: `systems` with their sampler's words; none = the forward process.
  set(systems) {
    this.pause();
    const rows = systems.length ? systems : [[null, null]];
    this.panels = rows.map(([system, info]) => new Panel(system, info, this.atlas?.half || 1.6));
    for (const panel of this.panels) panel.fine = this.atlas?.fine;
    this.grid.dataset.count = this.panels.length;
    this.grid.replaceChildren(...this.panels.map((p) => p.node));
    this.clocks.hidden = !systems.length;
    this.draw();
  }

  setAtlas(atlas) {
    this.atlas = atlas;
    this.backdrops.clear();
    this.cloud = new Float32Array(2 * atlas.cloud);
    this.cloudBins = tinted(Float32Array.from(atlas.clean));
    for (const panel of this.panels) panel.fine = atlas.fine;
    this.draw();
  }

  setLearned(arrows) {
    this.learned = arrows;
    this.backdrops.clear();
    if (arrows && this.learnedBox.hidden) {
      this.show.learned = true;
      this.learnedBox.box.checked = true;
    }
    if (!arrows) this.show.learned = false;
    this.learnedBox.hidden = !arrows;
    this.draw();
  }

  // Frames of the run under way show themselves as they come.
  frame(message) {
    const panel = this.panels[message.system];
    panel.take(message);
    panel.computing = true;
    this.draw();
  }

  arrived(message) {
    const panel = this.panels[message.system];
    panel.spread();
    panel.computing = false;
    panel.done = message;
    const parts = [WHOSE[panel.system.network], `${message.evaluations} evaluation${message.evaluations === 1 ? "" : "s"}`, `${message.seconds < 0.095 ? message.seconds.toFixed(2) : message.seconds.toFixed(1)}\u00a0s`];
    panel.count.textContent = parts.join(" · ");
    panel.result.replaceChildren(
      h("span", { title: "Sliced Wasserstein-2 distance between the particles and points of the data" }, "distance to the data ", h("b", {}, figure(message.distance))),
      h("span", { title: "The same distance between two sets of true points: no sampler can be better" }, `true points: ${figure(message.floor)}`),
      ...(message.error === null ? [] : [h("span", { title: "Root mean square distance to where the exact path of the ODE takes each particle" }, "from the exact ends ", h("b", {}, figure(message.error)))]),
    );
    this.draw();
  }

  most() {
    return Math.max(1, ...this.panels.map((p) => p.evaluations.at(-1) || 0));
  }

  // Times of a panel on the clock in use.
  line(panel) {
    if (this.clock === "level") return panel.times;
    const most = this.most();
    return panel.evaluations.map((n) => n / most);
  }

  scrub(at) {
    this.pause();
    this.move(at);
  }

  move(at) {
    this.at = Math.min(Math.max(at, 0), 1);
    this.slider.value = Math.round(1000 * this.at); // now, not with the next frame: what reads it sees where the player is
    this.draw();
    this.onmove?.(this.at);
  }

  // To the next moment at which any panel has a frame.
  step(direction) {
    this.pause();
    const moments = this.panels.flatMap((p) => (p.system ? this.line(p) : Array.from({ length: 33 }, (_, i) => i / 32)));
    const beyond = moments.filter((m) => (direction > 0 ? m > this.at + 1e-6 : m < this.at - 1e-6));
    if (beyond.length) this.move(direction > 0 ? Math.min(...beyond) : Math.max(...beyond));
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.panels.some((p) => p.computing)) return;
    const forward = !this.panels[0].system;
    // noise is added from right to left, taken away from left to right
    const direction = forward ? -1 : 1;
    if (direction > 0 ? this.at >= 1 : this.at <= 0) this.at = direction > 0 ? 0 : 1;
    let last = performance.now();
    this.playing = true;
    this.button.dataset.playing = "1";
    const tick = (now) => {
      if (!this.playing) return;
      if (this.grid.offsetParent !== null) this.move(this.at + (direction * (now - last)) / 1000 / SECONDS);
      last = now;
      if (direction > 0 ? this.at >= 1 : this.at <= 0) this.pause();
      else requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    delete this.button.dataset.playing;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.atlas && this.grid.offsetParent !== null) this.paint();
    });
  }

  paint() {
    const began = performance.now();
    for (const panel of this.panels) this.paintPanel(panel);
    const first = this.panels[0];
    const t = first.system && this.clock !== "level" ? null : this.levels.t(this.at);
    this.readout.replaceChildren(t === null ? `${Math.round(this.at * this.most())} evaluations` : formula(`t = ${figure(t)}`));
    this.node.dataset.frames = Number(this.node.dataset.frames || 0) + 1;
    this.cost = performance.now() - began;
  }

  paintPanel(panel) {
    const { sheet } = panel;
    if (!sheet.fit()) return;
    const [place, points, bins, at] = this.state(panel);
    sheet.clear();
    if (this.show.still) {
      sheet.zoom(this.levels.scale(this.levels.high) / this.levels.scale(this.levels.t(place)));
      this.backdrop(sheet, place);
    } else sheet.copy(this.backdrops.get(sheet, place, this.layersShown(), (twin, near) => this.backdrop(twin, near)));
    if (!points) return;
    if (this.show.ways && panel.frames.length) sheet.ways(panel.frames, at, points, bins, Math.max(1, Math.round(points.length / 2 / 160)));
    if (this.show.particles) sheet.particles(points, bins, points.length > 3000 ? 2.6 : 3.4);
  }

  layersShown() {
    return [night(), this.show.density, this.show.exact, this.show.learned].join();
  }

  // What is behind the particles.
  backdrop(sheet, place) {
    if (!this.show.still) sheet.clear();
    if (this.show.density) sheet.density(this.atlas, place);
    if (this.show.exact) sheet.arrows(this.atlas, this.atlas.score, place, colour("--lcm-soft"));
    if (this.show.learned && this.learned) sheet.arrows(this.atlas, this.learned, place, colour("--lcm-glow"));
  }

  // Place on the slider, particles, their colours and the last frame of one panel now.
  state(panel) {
    if (!panel.system) {
      const t = this.levels.t(this.at);
      return [this.at, this.atlas.noised(t, this.levels.scale(t), this.cloud), this.cloudBins, 0];
    }
    if (!panel.frames.length) return [0, null, null, 0];
    if (panel.computing) {
      panel.count.textContent = `${panel.evaluations.at(-1)} evaluations`;
      return [this.levels.place(panel.levels.at(-1)), panel.frames.at(-1), panel.bins, panel.frames.length - 1];
    }
    const [k, share] = panel.moment(this.at, this.line(panel));
    if (!share) return [this.levels.place(panel.levels[k]), panel.frames[k], panel.bins, k];
    const [a, b] = [panel.frames[k], panel.frames[k + 1]];
    panel.mixed ||= new Float32Array(a.length);
    for (let i = 0; i < a.length; i += 1) panel.mixed[i] = a[i] + share * (b[i] - a[i]);
    const place = this.levels.place(panel.levels[k]) * (1 - share) + this.levels.place(panel.levels[k + 1]) * share;
    return [place, panel.mixed, panel.bins, k];
  }

  // Rows of sampler, particle, x, y where each panel ends, in the data's own scale.
  table() {
    const rows = ["sampler,evaluations,particle,x,y"];
    for (const panel of this.panels) {
      const frame = panel.frames.at(-1);
      if (!frame) continue;
      const scale = this.levels.scale(panel.levels.at(-1));
      for (let i = 0; i < frame.length / 2; i += 1) rows.push(`${panel.system.sampler},${panel.evaluations.at(-1)},${i},${(frame[2 * i] / scale).toFixed(4)},${(frame[2 * i + 1] / scale).toFixed(4)}`);
    }
    return rows.join("\n");
  }

  // The whole run, one picture after the other.
  async film(count = 40) {
    this.pause();
    const frames = [];
    for (let i = 0; i < count; i += 1) {
      this.at = i / (count - 1);
      this.paint();
      frames.push({ blob: await this.picture(320) });
    }
    return frames;
  }

  // All panels on one sheet, with their titles.
  picture(side = 640) {
    const [head, gap] = [44, 16];
    const columns = Math.min(2, this.panels.length);
    const rows = Math.ceil(this.panels.length / columns);
    const canvas = h("canvas", { width: columns * (side + gap) + gap, height: rows * (side + head + gap) + gap });
    const pen = canvas.getContext("2d");
    pen.fillStyle = colour("--lcm-paper");
    pen.fillRect(0, 0, canvas.width, canvas.height);
    this.panels.forEach((panel, i) => {
      const [x, y] = [gap + (i % columns) * (side + gap), gap + Math.floor(i / columns) * (side + head + gap)];
      pen.fillStyle = colour("--lcm-ink");
      pen.font = `600 ${side > 400 ? 20 : 15}px ui-sans-serif, system-ui, sans-serif`;
      pen.fillText(`${panel.info?.title || "Adding noise"}   ${panel.count.textContent}`, x, y + 28);
      pen.drawImage(panel.canvas, x, y + head, side, side);
    });
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}

// A picture of one's own up the ODE to its noise, and back.
import { h } from "../registry.js";
import { card, figure, noteplace, number, select } from "./parts.js";
import { Strip, csv, film, img, keep, pictures, sheet, sigma, noise, clean } from "./pictures_parts.js";
import { download, packed, post } from "./wire.js";
import { Work, told } from "./work.js";

export class Invert {
  constructor(schema, { conditions }) {
    Object.assign(this, { schema, conditions });
    this.work = new Work("lab-invert-", "There and back", () => this.start());
    this.model = select("Model", schema.models.filter((m) => !m.consistency).map((m) => [m.id, m.id]), schema.default.teacher);
    this.sampler = select("Solver", schema.samplers.filter((s) => s.family === "ode" && s.score).map((s) => [s.name, s.title]), "ode-heun");
    this.evaluations = number("Evaluations each way", 49, { low: 2, high: schema.limits.evaluations });
    this.file = h("input", { type: "file", accept: "image/*", hidden: true, id: "lab-invert-file", onchange: () => this.file.files[0] && this.take(this.file.files[0]) });
    this.shown = h("div", { className: "lab-chosen" });
    const open = h("button", { type: "button", className: "lcm-tool", onclick: () => this.file.click() }, "Choose a picture…");
    this.side = [card("A picture of your own", h("p", {}, "The ODE runs both ways: up, it gives the noise from which this picture comes; down again it should come back. The prompt says what the picture shows; guidance is 1 unless you set another, since the way up and the way down must be the same ODE."),
      h("div", { className: "lab-tools" }, open, this.shown), this.file,
      h("div", { className: "lab-fields" }, h("label", {}, "Model", this.model), h("label", {}, "Solver", this.sampler), h("label", {}, "Evaluations each way", this.evaluations)),
      ...this.work.nodes)];
    this.empty = h("div", { className: "lab-empty" }, h("h3", {}, "There and back"), h("p", {}, "Choose a picture. It is carried to its noise and back, and you see what the round trip loses."));
    this.row = h("div", { className: "lab-finals" });
    this.films = h("div", { className: "lab-films" });
    this.facts = h("p");
    this.keepNote = noteplace();
    this.keep = keep(this.keepNote, {
      PNG: ["Picture, noise and what came back", async () => download(await sheet(this.cells), "invert.png")],
      GIF: ["The samples of the way up and of the way back", () => film([...(this.strips[0]?.rows[0] || []), ...(this.strips[1]?.rows[0] || [])], "invert.gif")],
      CSV: ["What the round trip loses", async () => download(csv(this.table()), "invert.csv")],
    });
    this.keep.hidden = true;
    this.node = h("div", { className: "lab-view" }, this.empty, this.row, this.facts, this.films, this.keep, this.keepNote);
  }

  take(file) {
    this.picture = { blob: file, src: URL.createObjectURL(file) };
    this.shown.replaceChildren(img(this.picture, "the chosen picture", { className: "lab-mini" }));
    this.work.note.say("");
  }

  async start() {
    if (!this.picture) {
      this.work.note.say("Choose a picture first.");
      return;
    }
    const signal = this.work.begin();
    this.asked = { model: this.model.value, sampler: this.sampler.value };
    this.strips = [];
    this.films.replaceChildren();
    this.row.replaceChildren();
    this.facts.textContent = "";
    const body = packed({ ...this.conditions(), ...this.asked, evaluations: Number(this.evaluations.value) }, this.picture.blob);
    await this.work.follow(post("pictures/invert", body, signal), signal, told(this));
  }

  frame(message) {
    this.empty.hidden = true;
    const i = message.system;
    if (!this.strips[i]) {
      this.strips[i] = new Strip([noise(), clean()]);
      this.films.append(h("figure", { className: "lab-film" }, h("header", {}, h("strong", {}, i ? "Back to the picture" : "Up to the noise")), this.strips[i].node));
    }
    this.strips[i].add(pictures(message), `σ ${sigma(message.sigma)}`);
  }

  inverted(message) {
    this.empty.hidden = true;
    const [there, back] = pictures(message, "image/png");
    const trip = message.round_trip;
    this.done = { ...message, ...this.asked };
    this.cells = [
      { picture: this.picture, words: ["The picture", ""] },
      { picture: there, words: ["Its noise", `spread ${figure(message.noise_std)} (1 = pure noise)`] },
      { picture: back, words: ["What came back", `rmse ${figure(trip.rmse)} of 255, PSNR ${trip.psnr?.toFixed(1)} dB`] },
    ];
    this.row.replaceChildren(...this.cells.map(({ picture, words }) => h("figure", { className: "lab-final" }, img(picture, words[0]), h("figcaption", {}, h("strong", {}, words[0]), h("span", {}, words[1])))));
    const own = trip.autoencoder_rmse ? ` The model's autoencoder alone loses ${figure(trip.autoencoder_rmse)} of 255.` : "";
    this.facts.textContent = `${message.evaluations} evaluations, ${message.seconds.toFixed(1)} s.${own} ${message.warnings.join(" ")}`;
    this.keep.hidden = false;
    this.node.dataset.psnr = trip.psnr;
  }

  // One row of numbers.
  table() {
    const { prompt, seed } = this.conditions();
    const { round_trip: trip, noise_std, evaluations, seconds } = this.done;
    return [["prompt", "seed", "model", "solver", "evaluations", "seconds", "noise_std", ...Object.keys(trip)], [prompt, seed, this.done.model, this.done.sampler, evaluations, seconds, noise_std, ...Object.values(trip)]];
  }

  stopped() {
    this.work.note.say("Stopped.", "info");
  }

  write(address) {
    for (const [name, field] of [["model", this.model], ["sampler", this.sampler], ["path", this.evaluations]]) address.set(name, field.value);
  }

  read(address) {
    for (const [name, field] of [["model", this.model], ["sampler", this.sampler], ["path", this.evaluations]]) if (address.has(name)) field.value = address.get(name);
  }
}

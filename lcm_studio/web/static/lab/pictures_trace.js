// The self-consistency strip: one path of the teacher's ODE, and what teacher and student say at each of its levels.
import { h } from "../registry.js";
import { Chart } from "../chart/chart.js";
import { card, figure, formula, noteplace, number, select } from "./parts.js";
import { Strip, csv, film, img, keep, pictures, sheet, sigma } from "./pictures_parts.js";
import { download, post } from "./wire.js";
import { Work, told } from "./work.js";

export class Trace {
  constructor(schema, { conditions }) {
    Object.assign(this, { schema, conditions, points: [] });
    this.work = new Work("lab-trace-", "Trace", () => this.start());
    const pick = (label, fits, value) => select(label, schema.models.filter(fits).map((m) => [m.id, m.id]), value);
    this.student = pick("Student", (m) => m.consistency, schema.default.student);
    this.teacher = pick("Teacher", (m) => !m.consistency, schema.default.teacher);
    this.evaluations = number("Evaluations of the path", 49, { low: 3, high: schema.limits.evaluations });
    this.count = number("Levels shown", 12, { low: 2, high: 24 });
    this.side = [card("One path", h("p", {}, "The teacher's ODE is solved from the noise of the seed. At each level of this one path both networks are asked once for the clean picture."),
      h("div", { className: "lab-fields" }, h("label", {}, "Student", this.student), h("label", {}, "Teacher", this.teacher), h("label", {}, "Evaluations", this.evaluations), h("label", {}, "Levels shown", this.count)),
      ...this.work.nodes)];
    this.empty = h("div", { className: "lab-empty" }, h("h3", {}, "What distillation did, at a glance"), h("p", {}, "A consistency function says the same at every level of a path: where it ends. Its teacher, asked once, can only say the mean of all that may come."));
    this.place = h("div", { className: "lab-films" });
    this.chart = new Chart({ title: [h("b", {}, "Distance to its own first answer"), "  ", formula("| f(x_t, t) − f(x_T, T) |")], x: "sigma", y: "of 255", logX: true, height: 210, lines: [{ label: "student", colour: "--lab-a", points: true }, { label: "teacher, one step", colour: "--lab-b", points: true }] });
    this.right = new Chart({ title: [h("b", {}, "Distance to the path's end"), "  ", formula("| f(x_t, t) − x_0 |")], x: "sigma", y: "of 255", logX: true, height: 210, lines: [{ label: "student", colour: "--lab-a", points: true }, { label: "teacher, one step", colour: "--lab-b", points: true }] });
    this.charts = h("div", { className: "lab-pair", hidden: true }, this.chart.node, this.right.node);
    this.end = h("p");
    this.keepNote = noteplace();
    this.keep = keep(this.keepNote, {
      PNG: ["The strip: samples, the teacher's and the student's answers", async () => download(await this.picture(), "trace.png")],
      GIF: ["The student's and the teacher's answers along the path", () => film([...this.strip.rows[2], ...this.strip.rows[1]], "trace.gif")],
      CSV: ["Distances at each level", async () => download(csv([["sigma", "student_to_start", "teacher_to_start", "student_to_end", "teacher_to_end"], ...this.points.map((p) => [p.sigma, p.student_to_start, p.teacher_to_start, p.student_to_end, p.teacher_to_end])]), "trace.csv")],
    });
    this.keep.hidden = true;
    this.node = h("div", { className: "lab-view" }, this.empty, this.place, this.end, this.charts, this.keep, this.keepNote);
  }

  async start() {
    const signal = this.work.begin();
    this.points = [];
    this.strip = new Strip([formula("x_t"), "teacher", "student"]);
    this.end.replaceChildren();
    const body = { ...this.conditions(), model: this.student.value, teacher: this.teacher.value, evaluations: Number(this.evaluations.value), points: Number(this.count.value) };
    await this.work.follow(post("pictures/trace", body, signal), signal, told(this));
  }

  point(message) {
    if (!this.points.length) {
      this.empty.hidden = true;
      this.place.replaceChildren(h("figure", { className: "lab-film" }, h("header", {}, h("strong", {}, "Along one path"), h("span", { className: "lab-count" }, "from noise to picture")), this.strip.node));
      this.keep.hidden = this.charts.hidden = false;
    }
    this.points.push(message);
    this.strip.add(pictures(message), `σ ${sigma(message.sigma)}`, ["noisy sample", "teacher's one-step estimate", "student's answer"]);
  }

  traced(message) {
    const rows = this.points.filter((p) => Number.isFinite(p.sigma) && p.sigma > 0).sort((a, b) => a.sigma - b.sigma);
    const x = rows.map((p) => p.sigma);
    this.chart.draw(x, [rows.map((p) => p.student_to_start), rows.map((p) => p.teacher_to_start)]);
    this.right.draw(x, [rows.map((p) => p.student_to_end), rows.map((p) => p.teacher_to_end)]);
    const [picture] = pictures(message, "image/png");
    const first = this.points[0];
    this.end.replaceChildren(img(picture, "end of the path", { className: "lab-mini" }), h("span", {}, `The end of the path (${message.evaluations} evaluations in all, ${message.seconds.toFixed(1)} s). From pure noise the student's one answer is ${figure(first.student_to_end)} of 255 from it, the teacher's ${figure(first.teacher_to_end)}.`));
    this.node.dataset.points = this.points.length;
  }

  // The three rows of the strip on one sheet.
  picture() {
    const names = ["Noisy sample", "Teacher, one step", "Student"];
    const cells = this.strip.rows.flatMap((row, i) => row.map((picture, k) => ({ picture, words: [names[i], `σ ${sigma(this.points[k].sigma)}`] })));
    return sheet(cells, this.points.length);
  }

  stopped() {
    this.work.note.say("Stopped.", "info");
  }

  write(address) {
    for (const [name, field] of [["model", this.student], ["teacher", this.teacher], ["path", this.evaluations], ["points", this.count]]) address.set(name, field.value);
  }

  read(address) {
    for (const [name, field] of [["model", this.student], ["teacher", this.teacher], ["path", this.evaluations], ["points", this.count]]) if (address.has(name)) field.value = address.get(name);
  }
}

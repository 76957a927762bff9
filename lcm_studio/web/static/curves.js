// A run's curves, with those of a run beside it: a slider smooths them, and the values stand at the pointer.
import { Chart } from "./chart/chart.js";
import { h } from "./registry.js";

const COLOURS = ["--lcm-accent", "--lcm-good"];
const KEY = "lcm-smoothing";

// The running mean with weight `keep` on what was before, without the pull to its start (as TensorBoard has it).
export function smoothed(points, keep) {
  let sum = 0;
  let weight = 0;
  return points.map(([step, value]) => {
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return [step, sum / weight];
  });
}

// Whether values span so much that a linear axis would hide the small ones.
function wide(runs) {
  const values = runs.flatMap((points) => points.map(([, value]) => value));
  const low = Math.min(...values);
  return low > 0 && Math.max(...values) / low > 8;
}

export function mountCurves(_tab, root, { props, watch }) {
  const slider = h("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: localStorage.getItem(KEY) ?? 0.6, ariaLabel: "Smoothing of the curves", oninput: () => { localStorage.setItem(KEY, slider.value); amount.textContent = slider.value; draw(); } });
  const amount = h("output", {}, slider.value);
  const charts = h("div", { className: "distil-curves" });
  const box = h("section", { className: "distil-charts", ariaLabel: "Curves", hidden: true }, h("label", { className: "distil-smooth" }, h("span", {}, "Smoothing"), slider, amount), charts);
  root.replaceChildren(box);
  const made = new Map(); // title -> its chart, and what it was made for

  function chart(title, lines, logY, zero) {
    const form = JSON.stringify([lines, logY]);
    const old = made.get(title);
    if (old?.form === form) return old.chart;
    const fresh = new Chart({ title: h("b", {}, logY ? `${title}, log scale` : title), x: "step", y: "", lines, logY, zero, height: 200, tip: true });
    if (old) old.chart.node.replaceWith(fresh.node);
    else charts.append(fresh.node);
    made.set(title, { form, chart: fresh });
    return fresh;
  }

  function drawOne(title, name, runs, { smooth, zero }) {
    const shown = runs.map((run, i) => ({ name: run.name, colour: COLOURS[i], points: run[name] })).filter((run) => run.points.length > 1);
    if (!shown.length) {
      made.get(title)?.chart.node.remove();
      made.delete(title);
      return;
    }
    const logY = !zero && wide(shown.map((run) => run.points));
    const lines = [];
    const curves = [];
    for (const run of shown) {
      const line = { label: run.name, colour: run.colour, dash: run.colour === COLOURS[1] ? [6, 3] : undefined };
      if (smooth > 0) {
        lines.push({ ...line, faint: true, dash: undefined });
        curves.push(run.points);
      }
      lines.push(line);
      curves.push(smoothed(run.points, smooth));
    }
    const steps = [...new Set(curves.flatMap((points) => points.map(([step]) => step)))].sort((a, b) => a - b);
    const ys = curves.map((points) => {
      const known = new Map(points);
      return steps.map((step) => known.get(step) ?? null);
    });
    const drawn = chart(title, lines, logY, zero);
    const words = shown.map(({ name: run, points }) => `${run}: ${points[0][1]} at step ${points[0][0]}, ${points.at(-1)[1]} at step ${points.at(-1)[0]}`);
    drawn.place.setAttribute("role", "img");
    drawn.place.setAttribute("aria-label", `${title}. ${words.join("; ")}`);
    drawn.draw(steps, ys);
  }

  function draw() {
    const runs = props.value?.runs || [];
    box.hidden = !runs.some((run) => run.loss.length > 1);
    drawOne("Loss", "loss", runs, { smooth: Number(slider.value), zero: false });
    drawOne("Learning rate", "lr", runs, { smooth: 0, zero: true });
  }
  watch("value", draw);
  draw();
}

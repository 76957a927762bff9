// A number that is typed beside a slider goes to the nearest that the slider can show.
import { type } from "./registry.js";

addEventListener(
  "change",
  (e) => {
    const box = e.target;
    if (box.type !== "number" || box.value === "") return;
    const slider = box.closest(".block")?.querySelector('input[type="range"]');
    if (!slider) return;
    const [low, high, step] = [slider.min, slider.max, slider.step].map(Number);
    const steps = Math.round((Number(box.value) - low) / step);
    const value = Math.min(high, Math.max(low, low + steps * step));
    const text = String(Number(value.toFixed(6)));
    if (text !== String(Number(box.value))) type(box, text);
  },
  true,
);

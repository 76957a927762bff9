// A number that is typed beside a slider goes to the nearest that the slider can show, with a sentence under it.
import { h, type } from "./registry.js";

const WORDS = "lcm-nearest";

// The sentences whose number is no longer the one that they speak of go.
export function settle() {
  for (const words of document.querySelectorAll(`.${WORDS}`)) {
    if (words.closest(".block")?.querySelector('input[type="number"]')?.value !== words.dataset.value) words.remove();
  }
}

addEventListener("input", settle);
addEventListener(
  "change",
  (e) => {
    const box = e.target;
    if (box.type !== "number" || box.value === "") return;
    const block = box.closest(".block");
    const slider = block?.querySelector('input[type="range"]');
    if (!slider) return;
    const [low, high, step] = [slider.min, slider.max, slider.step].map(Number);
    const typed = Number(box.value);
    const value = Math.min(high, Math.max(low, low + Math.round((typed - low) / step) * step));
    const text = String(Number(value.toFixed(6)));
    if (text === String(typed)) return;
    type(box, text);
    const allowed = typed < low || typed > high ? `from ${low} to ${high}` : `in steps of ${step} from ${low}`;
    settle();
    block.append(h("small", { className: WORDS, role: "status", "data-value": text }, `${typed} became ${text}: it goes ${allowed}.`));
  },
  true,
);

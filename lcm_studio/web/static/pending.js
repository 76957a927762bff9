// Gradio drops a press of a button whose last press is still being answered. Here it gets a word.
import { say } from "./registry.js";

const WORDS = { "distil-go": "The run before is still being checked. Press again when it is in the list." };
const pending = new Set();

document.addEventListener(
  "click",
  (e) => {
    const id = e.target.closest?.("button")?.id;
    if (!(id in WORDS)) return;
    say(id.split("-")[0], pending.has(id) ? { kind: "warning", text: WORDS[id] } : null, "press");
    pending.add(id);
  },
  true,
);

window.lcm = window.lcm || {};
window.lcm.settled = (id) => {
  pending.delete(id);
  say(id.split("-")[0], null, "press");
};
// What a note says is over.
window.lcm.quiet = (tab) => say(tab, null);

// A press of a button whose last press is still being answered gets a word, and goes no further: Gradio drops most of them without
// one, but takes two that come before it has drawn the first.
import { say } from "./registry.js";

const LONGEST = 60000; // an answer that has not come then never comes: the connection is lost

const WORDS = { "distil-go": "The run before is still being checked. Press again when it is in the list." };
const pending = new Map(); // id -> when it was pressed

document.addEventListener(
  "click",
  (e) => {
    const id = e.target.closest?.("button")?.id;
    if (!(id in WORDS)) return;
    const waits = performance.now() - pending.get(id) < LONGEST;
    say(id.split("-")[0], waits ? { kind: "warning", text: WORDS[id] } : null, "press");
    if (!waits) pending.set(id, performance.now());
    else e.stopImmediatePropagation();
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

// Tabs (and the chosen run) in the address, so that Back, a bookmark and a reload lead to what was seen.
import { registry, showTab } from "./registry.js";

const TAB = '.lcm-tabs button[role="tab"]:not(.lcm-group)';
const buttons = () => [...document.querySelectorAll(TAB)];
const nameOf = (button) => button.textContent.trim().toLowerCase();
let run = ""; // the one that Distil shows
let moving = false; // while the page follows the address, and not the address the page

function place() {
  const [tab, item = ""] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { tab, item };
}

function note(tab, how = "pushState") {
  const hash = `#${tab}${tab === "distil" && run ? `/${encodeURIComponent(run)}` : ""}`;
  if (!moving && location.hash !== hash) history[how](null, "", hash);
}

async function follow() {
  const { tab, item } = place();
  const button = buttons().find((b) => nameOf(b) === tab) || buttons()[0];
  if (!button) return;
  moving = true;
  showTab(nameOf(button));
  moving = false;
  if (tab !== "distil" || !item || item === run) return;
  run = item;
  (await registry.when("channel", "run-distil"))(item);
}

document.addEventListener("click", (e) => {
  const button = e.target.closest?.(TAB);
  if (button) note(nameOf(button));
});
addEventListener("popstate", follow);

// Called by Gradio when another run is shown. The first one, which nobody has chosen, is no step to go back to.
window.lcm = window.lcm || {};
window.lcm.run = (id) => {
  const first = !run;
  run = id || "";
  if (place().tab === "distil") note("distil", first ? "replaceState" : "pushState");
};

// Gradio draws the tabs some time after this module has run.
export function arrive() {
  if (location.hash) follow();
}

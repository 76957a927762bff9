// What the forms hold is kept in this browser tab, and put back after a reload.
import { settle } from "./fields.js";
import { registry } from "./registry.js";

const key = (tab) => `lcm-form-${tab}`;
const TABS = ["create", "edit", "distil"];

function read(tab) {
  try {
    return JSON.parse(sessionStorage.getItem(key(tab)) || "null");
  } catch {
    return null;
  }
}

// Read at once: the page's first values are kept as soon as they are drawn.
const saved = Object.fromEntries(TABS.map((tab) => [tab, read(tab)]));

// Called by Gradio whenever a control changes; values is name -> value.
window.lcm = window.lcm || {};
const current = {};

// What a form holds now: name -> value; nothing before its first change.
export const held = (tab) => current[tab] || {};

window.lcm.keep = (tab, values) => {
  current[tab] = values;
  settle();
  try {
    sessionStorage.setItem(key(tab), JSON.stringify(values));
  } catch (error) {
    console.info("The form is not kept:", error);
  }
};

for (const tab of TABS) {
  if (saved[tab]) registry.when("channel", `form-${tab}`).then((fill) => fill(saved[tab]));
}

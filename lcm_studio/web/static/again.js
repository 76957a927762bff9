// What this browser tab has asked for goes on while it is loaded again, and is shown once it is back.
import { registry } from "./registry.js";

const KEY = "lcm-tab";
const SENT = "lcm-under-way";
let leaving = false;

// The name of this browser tab, which nobody else knows.
export function page() {
  let key = sessionStorage.getItem(KEY);
  if (!key) sessionStorage.setItem(KEY, (key = crypto.randomUUID?.() || `${Math.random()}${Math.random()}`.replaceAll(".", "")));
  return key;
}

const names = () => (sessionStorage.getItem(SENT) || "").split(" ").filter(Boolean);
const before = names(); // of the page that was here before

export const underWay = (tab) => before.includes(tab);

export function sent(tab) {
  sessionStorage.setItem(SENT, [...new Set([...names(), tab])].join(" "));
}

export function ended(tab) {
  if (leaving) return; // a page that goes loses its connections; that ends nothing
  sessionStorage.setItem(SENT, names().filter((name) => name !== tab).join(" "));
}

for (const event of ["beforeunload", "pagehide"]) {
  addEventListener(event, () => {
    leaving = true;
    setTimeout(() => (leaving = false), 3000); // a download looks like leaving, too
  });
}

if (before.length) registry.when("channel", "back").then((say) => say(""));

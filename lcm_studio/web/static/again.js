// What this browser tab has asked for goes on while it is loaded again, and is shown once it is back.
import { registry } from "./registry.js";

const KEY = "lcm-tab";
const LEFT = "lcm-left"; // the page that had the key is gone
const SENT = "lcm-under-way";
const PATIENCE = 1500; // milliseconds for the answer of a browser tab that has the same key
let leaving = false;

const fresh = () => crypto.randomUUID?.() || `${Math.random()}${Math.random()}`.replaceAll(".", "");
const names = () => (sessionStorage.getItem(SENT) || "").split(" ").filter(Boolean);
let before = names(); // of the page that was here before
let key = sessionStorage.getItem(KEY);
let origin = null; // the key of the browser tab that this one is a duplicate of
const me = { by: fresh(), since: performance.timeOrigin };

// A browser duplicates a tab with all that it keeps. A key whose page has left is this tab's own (a reload, Back); one whose page has
// not may belong to another tab that is open. That one answers, and this tab takes a key of its own.
const room = window.BroadcastChannel ? new BroadcastChannel("lcm-tabs") : null;
let settle;
const settled = new Promise((resolve) => (settle = resolve));

function take(name) {
  key = name;
  sessionStorage.setItem(KEY, name);
}

function part() {
  origin = key;
  take(fresh());
  before = [];
  sessionStorage.removeItem(SENT);
}

if (!key || !room || sessionStorage.getItem(LEFT)) settle();
if (!key) take(fresh());
sessionStorage.removeItem(LEFT);
if (room) {
  room.onmessage = ({ data }) => {
    if (data.key !== key || data.by === me.by) return;
    const earlier = data.since < me.since || (data.since === me.since && data.by < me.by);
    if (earlier) part();
    else if (data.asks) room.postMessage({ key, ...me });
    if (earlier) settle();
  };
  room.postMessage({ key, asks: true, ...me });
  setTimeout(settle, PATIENCE);
}

// The name of this browser tab, which nobody else knows.
export async function page() {
  await settled;
  return key;
}

// Its name, and that of the browser tab that it is a duplicate of.
export async function pages() {
  await settled;
  return [key, origin];
}

export async function underWay(tab) {
  await settled;
  return before.includes(tab);
}

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
addEventListener("pagehide", () => sessionStorage.setItem(LEFT, "1"));
addEventListener("pageshow", () => sessionStorage.removeItem(LEFT)); // Back may bring a page that was only hidden

settled.then(() => {
  if (before.length) registry.when("channel", "back").then((say) => say(""));
});

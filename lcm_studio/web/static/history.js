// The session's pictures: in this browser tab only, and still there after a refresh.
import { h, registry, tabOf, url } from "./registry.js";

const KEY = "lcm-history";
const MOST = 60;
let entries = read();
const strips = new Map();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) || "[]");
  } catch {
    return [];
  }
}

function write() {
  while (entries.length) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(entries));
      return;
    } catch {
      entries.pop();
    }
  }
}

export function remember(tab, value) {
  const frames = (value.frames || []).filter((f) => f.url);
  if (!frames.length || !value.settings) return;
  if (entries[0]?.frames[0].id === frames[0].id) return;
  const kept = frames.map(({ thumb, url, id, seed, label, note, width, height, settings }) => ({ thumb, url, id, seed, label, note, width, height, settings: frames.length > 1 ? settings : undefined }));
  const entry = { tab, settings: value.settings, frames: kept, facts: value.facts, layout: value.layout, live: !!value.live, at: Date.now() };
  // While the hand is still shaping one picture, Live keeps one entry, not one per word.
  if (entry.live && entries[0]?.live && entry.at - entries[0].at < 6000) entries.shift();
  entries.unshift(entry);
  entries = entries.slice(0, MOST);
  write();
  for (const [name, strip] of strips) drawStrip(name, strip);
}

const framesOf = (entry) => entry.frames.map((f) => ({ ...f, src: url(f.url), settings: f.settings || entry.settings }));

function show(entry) {
  registry.get("stage", entry.tab)?.draw({ phase: "restored", frames: framesOf(entry), facts: entry.facts, layout: entry.layout });
  registry.get("channel", `restore-${tabOf(entry.settings)}`)?.(entry.settings);
}

function drawStrip(tab, strip) {
  const mine = entries.filter((e) => e.tab === tab);
  strip.closest(".lcm-history").hidden = mine.length === 0;
  strip.replaceChildren(
    ...mine.map((entry) => {
      const words = entry.settings.prompt || "no prompt";
      const drop = () => remove(tab, entry);
      const button = h(
        "button",
        { type: "button", className: "lcm-thumb", title: `${words} (seed ${entry.settings.seed}, ${entry.settings.steps} steps)`, ariaLabel: `Restore: ${words}`, onclick: () => show(entry), onkeydown: (e) => e.key === "Delete" && drop() },
        h("img", { src: entry.frames[0].thumb, alt: "", loading: "lazy" }),
        entry.frames.length > 1 ? h("small", {}, `${entry.frames.length}`) : null,
      );
      return h("div", { className: "lcm-entry" }, button, h("button", { type: "button", className: "lcm-forget", title: "Take it out of the history (Delete); its file stays", ariaLabel: `Take out of the history: ${words}`, onclick: drop }, "×"));
    }),
  );
}

// The newest entry of a tab, for a page that is opened again.
export function latest(tab) {
  const entry = entries.find((e) => e.tab === tab);
  return entry && { phase: "restored", frames: framesOf(entry), facts: entry.facts, layout: entry.layout };
}

export function mountHistory(tab, root) {
  const strip = h("div", { className: "lcm-strip" });
  const clear = h("button", { type: "button", className: "lcm-tool", onclick: () => forget(tab) }, "Clear");
  root.replaceChildren(h("section", { className: "lcm-history", ariaLabel: "History of this session", hidden: true }, h("header", {}, h("h2", {}, "This session"), h("span", { className: "lcm-soft" }, "click one to restore its settings"), clear), strip));
  strips.set(tab, strip);
  drawStrip(tab, strip);
}

// The focus goes on to the next entry.
function remove(tab, entry) {
  const strip = strips.get(tab);
  const at = entries.filter((e) => e.tab === tab).indexOf(entry);
  forget(tab, (e) => e !== entry);
  const thumbs = strip.querySelectorAll(".lcm-thumb");
  thumbs[Math.min(at, thumbs.length - 1)]?.focus();
}

function forget(tab, kept = (e) => e.tab !== tab) {
  entries = entries.filter(kept);
  if (entries.length) write();
  else sessionStorage.removeItem(KEY);
  drawStrip(tab, strips.get(tab));
}

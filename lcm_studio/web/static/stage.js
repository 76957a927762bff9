// The picture stage: frames that are updated in place, progress, facts; draws the values of web/views.py.
import { ended, sent, underWay } from "./again.js";
import { h, hasTab, registry, say, send, shape, url } from "./registry.js";
import { latest, remember } from "./history.js";
import { openViewer } from "./viewer.js";

const EMPTY = {
  create: ["Describe a picture, then press Generate.", "Or switch on Live and watch it follow your typing."],
  edit: ["The result appears here.", "Open a picture or take an example, choose a tool, press Apply."],
};

const BUSY = ["queued", "loading", "running"];

export class Stage {
  constructor(tab, root) {
    this.tab = tab;
    this.lastSeed = null;
    this.frames = h("div", { className: "lcm-frames" });
    this.bar = h("i");
    this.text = h("span");
    this.progress = h("div", { className: "lcm-progress", role: "status", "aria-live": "polite", hidden: true }, h("b", {}, this.bar), this.text);
    this.facts = h("dl", { className: "lcm-facts" });
    const [first, second] = EMPTY[tab] || EMPTY.create;
    this.empty = h("div", { className: "lcm-empty" }, h("div", { className: "lcm-horizon" }), h("p", {}, first), h("p", { className: "lcm-soft" }, second));
    this.root = h("section", { className: "lcm-stage", "aria-label": "Pictures" }, this.empty, this.frames, this.progress);
    root.replaceChildren(this.root, this.facts);
    this.draw({ phase: "idle", frames: [] });
  }

  draw(value) {
    if (!value || !value.phase) return;
    const busy = BUSY.includes(value.phase);
    const starts = busy && !BUSY.includes(this.root.dataset.phase); // then what was said of the last request is over
    this.root.dataset.phase = value.phase;
    this.root.closest('[role="tabpanel"]')?.toggleAttribute("data-busy", busy);
    this.drawProgress(value);
    if (value.frames) this.drawFrames(value);
    if (value.phase !== "running" || value.message || starts) say(this.tab, value.message);
    // For measurements: the engine's own time of what shows.
    if (value.seconds) this.root.dataset.seconds = value.seconds;
    if (value.facts || value.phase === "running") this.drawFacts(value.facts || {});
    if (value.seeds && value.seeds.length) this.lastSeed = value.seeds[0];
    if (value.phase === "done" || value.phase === "stopped") remember(this.tab, value);
    if (["done", "stopped", "failed"].includes(value.phase)) ended(this.tab);
    document.dispatchEvent(new CustomEvent("lcm-stage", { detail: { tab: this.tab, value } }));
  }

  // Every way out of a request ends here at the latest: what is under way is over, and why.
  lose(why) {
    if (BUSY.includes(this.root.dataset.phase)) this.draw({ phase: "failed", message: { kind: "error", text: LOST[why] } });
  }

  drawProgress(value) {
    const p = value.progress;
    this.progress.hidden = !p;
    if (!p) return;
    const share = p.total ? p.done / p.total : null;
    this.progress.dataset.kind = share === null ? "waiting" : "steps";
    this.bar.style.width = share === null ? "" : `${100 * share}%`;
    this.text.textContent = p.text || "";
  }

  drawFrames(value) {
    const frames = value.frames;
    this.empty.hidden = frames.length > 0;
    this.root.dataset.layout = value.layout || "grid";
    this.frames.dataset.count = frames.length;
    const columns = value.layout === "compare" ? 4 : Math.ceil(Math.sqrt(frames.length));
    this.frames.style.setProperty("--n", String(columns));
    // All rows fit on the screen together.
    const share = columns / Math.max(1, Math.ceil(frames.length / columns));
    this.frames.style.maxWidth = frames.length > 1 ? `min(100%, var(--lcm-tall) * ${share} * var(--ratio, 1))` : "";
    while (this.frames.children.length > frames.length) this.frames.lastChild.remove();
    frames.forEach((frame, i) => this.drawFrame(frame, i, value));
  }

  drawFrame(frame, i, value) {
    let node = this.frames.children[i];
    if (!node) {
      node = h("figure", { className: "lcm-frame" }, h("button", { type: "button", className: "lcm-picture", ariaLabel: "Look at it large" }, h("img", { alt: "", decoding: "sync" })), h("figcaption"));
      node.querySelector("button").addEventListener("click", () => this.open(node, i));
      node.querySelector("img").addEventListener("load", (e) => shape(e.target, this.frames));
      this.frames.append(node);
    }
    node.frame = frame;
    const img = node.querySelector("img");
    node.classList.toggle("lcm-blank", !frame.src);
    if (frame.src && img.getAttribute("src") !== frame.src) {
      img.src = frame.src;
      img.alt = (frame.settings && frame.settings.prompt) || "Preview";
    }
    node.dataset.final = frame.url ? "1" : "";
    if (frame.url) upgrade(img, frame);
    this.caption(node.querySelector("figcaption"), frame, value);
  }

  // The one of several that is seen on the canvas.
  mark(id) {
    const { children } = this.frames;
    for (const node of children) node.toggleAttribute("data-picked", children.length > 1 && node.frame.id === id);
  }

  // Where there is a canvas the picture goes there; elsewhere it opens large.
  open(node, index) {
    if (!node.frame.src) return;
    if (!registry.get("desk", this.tab)) openViewer(node.frame);
    document.dispatchEvent(new CustomEvent("lcm-pick", { detail: { tab: this.tab, index } }));
  }

  caption(caption, frame, value) {
    const words = [];
    if (frame.label) words.push(h("strong", {}, frame.label));
    if (frame.note) words.push(h("span", {}, frame.note));
    if (frame.seed !== undefined && !frame.label) words.push(h("span", {}, `seed ${frame.seed}`));
    const tools = frame.url ? frameTools(this.tab, frame) : [];
    caption.replaceChildren(h("span", { className: "lcm-words" }, ...words), h("span", { className: "lcm-tools" }, ...tools));
  }

  drawFacts(facts) {
    this.facts.replaceChildren(...Object.entries(facts).flatMap(([name, text]) => [h("div", {}, h("dt", {}, name), h("dd", {}, text))]));
  }
}

// The JPEG shows at once; the PNG with its settings takes its place when it is there, so "save image" saves that.
function upgrade(img, frame) {
  const full = new Image();
  full.onload = () => {
    if (img.getAttribute("src") === frame.src) img.src = full.src;
  };
  full.src = url(frame.url);
}

export function frameTools(tab, frame) {
  const tools = [
    h("a", { href: url(frame.url), download: `lcm-studio-${frame.seed}.png`, className: "lcm-tool", title: "Download the PNG with its settings" }, "PNG"),
    h("button", { type: "button", className: "lcm-tool", title: "Put this picture's settings into the form", onclick: () => registry.get("channel", `restore-${tab}`)?.(frame.settings) }, "Use"),
  ];
  if (tab !== "edit" && hasTab("edit")) {
    tools.push(h("button", { type: "button", className: "lcm-tool", title: "Go on with this picture in Edit", onclick: () => send("edit", "receive-edit", { id: frame.id, settings: frame.settings }) }, "Edit"));
  }
  if (tab === "edit") {
    tools.push(h("button", { type: "button", className: "lcm-tool", title: "Make this picture the one that is worked on", onclick: () => send("edit", "receive-edit", { id: frame.id }) }, "Go on"));
  }
  return tools;
}

const LOST = {
  gone: "The studio does not answer, so this request is lost. Send it again when the studio is back.",
  restarted: "The studio was started again, so this request is lost. Send it again.",
  refused: "The studio could not take this request. Try it again; if that does not help, reload the page.",
};

// Where the page is narrow or zoomed in, the picture lies above its controls: the window goes there.
function bring(place) {
  const { top, bottom, height } = place.getBoundingClientRect();
  const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
  if (seen < Math.min(height, innerHeight) / 2) place.scrollIntoView({ block: "center" });
}

// What was asked for before a reload is shown again, once the canvas of the tab is as it was.
async function takeUp(tab, stage) {
  if (tab === "edit") await registry.when("canvas", tab);
  stage.draw({ phase: "running", progress: { text: "Taking the request up again" } });
  (await registry.when("channel", `again-${tab}`))("");
}

export function mountStage(tab, root, { props, watch }) {
  const stage = new Stage(tab, root);
  registry.set("stage", tab, stage);
  watch("value", () => stage.draw(props.value));
  if (tab !== "edit" && latest(tab)) stage.draw(latest(tab)); // the canvas of Edit brings its own back
  document.addEventListener("click", (e) => {
    if (!e.target.closest?.(`#${tab}-go, #${tab}-compare, #${tab}-vary`)) return;
    sent(tab);
    stage.draw({ phase: "running", progress: { text: "Sent" } });
    bring(registry.get("desk", tab)?.box || stage.root);
  });
  underWay(tab).then((yes) => yes && takeUp(tab, stage));
  document.addEventListener("lcm-lost", (e) => stage.lose(e.detail));
  // Gradio's listeners are plain strings; those of failed events call this.
  window.lcm = window.lcm || {};
  window.lcm.failed = async (name) => {
    const there = await fetch(url("studio/state")).then((answer) => answer.ok, () => false);
    registry.get("stage", name)?.lose(there ? "refused" : "gone");
  };
}

// The picture stage: frames that are updated in place, progress, facts; draws the values of ui/views.py.
import { h, hasTab, registry, say, send, url } from "./registry.js";
import { remember } from "./history.js";
import { openViewer } from "./viewer.js";

const EMPTY = {
  create: ["Describe a picture, then press Generate.", "Or switch on Live and watch it follow your typing."],
  edit: ["The result appears here.", "Open a picture or take an example, choose a tool, press Apply."],
};

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
    this.root.dataset.phase = value.phase;
    const busy = ["queued", "loading", "running"].includes(value.phase);
    this.root.closest('[role="tabpanel"]')?.toggleAttribute("data-busy", busy);
    this.drawProgress(value);
    if (value.frames) this.drawFrames(value);
    if (value.phase !== "running" || value.message) say(this.tab, value.message);
    // For measurements: the engine's own time of what shows.
    if (value.seconds) this.root.dataset.seconds = value.seconds;
    if (value.facts || value.phase === "running") this.drawFacts(value.facts || {});
    if (value.seeds && value.seeds.length) this.lastSeed = value.seeds[0];
    if (value.phase === "done" || value.phase === "stopped") remember(this.tab, value);
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
    this.frames.style.maxWidth = `min(100%, ${(64 * columns) / Math.max(1, Math.ceil(frames.length / columns))}vh)`;
    while (this.frames.children.length > frames.length) this.frames.lastChild.remove();
    frames.forEach((frame, i) => this.drawFrame(frame, i, value));
  }

  drawFrame(frame, i, value) {
    let node = this.frames.children[i];
    if (!node) {
      node = h("figure", { className: "lcm-frame" }, h("button", { type: "button", className: "lcm-picture", ariaLabel: "Look at it large" }, h("img", { alt: "", decoding: "sync" })), h("figcaption"));
      node.querySelector("button").addEventListener("click", () => node.frame.src && openViewer(node.frame));
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
    tools.push(h("button", { type: "button", className: "lcm-tool", title: "Put this picture on the canvas", onclick: () => send("edit", "receive-edit", { id: frame.id, settings: frame.settings }) }, "Go on"));
  }
  return tools;
}

export function mountStage(tab, root, { props, watch }) {
  const stage = new Stage(tab, root);
  registry.set("stage", tab, stage);
  watch("value", () => stage.draw(props.value));
  document.addEventListener("click", (e) => {
    if (e.target.closest?.(`#${tab}-go, #${tab}-compare, #${tab}-vary`)) stage.draw({ phase: "running", progress: { text: "Sent" } });
  });
}

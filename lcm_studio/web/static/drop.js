// A picture dropped on the page: on one half its settings are restored, on the other it opens in Edit. Or it is chosen here.
// A picture that is pasted opens in Edit. Weights that are dropped become a LoRA, a textual inversion or the model of Create.
import { hand } from "./lora.js";
import { h, hasTab, say, send, tabOf, url } from "./registry.js";

const WEIGHTS = /\.(safetensors|ckpt|pt|pth|bin)$/i; // all go to the gate, which says what it does not take
const PICTURES = ["image/png", "image/jpeg", "image/webp"];

// True where the file's settings were sent to their tab; else why not.
async function restore(file, tab) {
  say(tab, { kind: "info", text: `Reading the settings of ${file.name} ...` });
  const answer = await fetch(url("studio/settings"), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
  const data = answer ? await answer.json().catch(() => ({})) : {};
  if (!answer || !answer.ok) return data.detail || "The file could not be read; is the studio still running?";
  const target = tabOf(data.settings);
  if (!hasTab(target)) return "This picture's settings belong to a tab that this studio does not have.";
  say(tab, null);
  await send(target, `restore-${target}`, data.settings); // the form itself says how that went
  return true;
}

// Why a picture cannot be opened, in a sentence; nothing where it can. Asked before the page leaves what it shows for Edit.
async function damage(file) {
  const answer = await fetch(url("studio/opens"), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
  if (answer?.ok) return "";
  const { detail } = answer ? await answer.json().catch(() => ({})) : { detail: "The studio does not answer; is it still running?" };
  return `${file.name} cannot be opened. ${detail || "Try again in a moment"}`;
}

async function open(file, tab) {
  if (!PICTURES.includes(file.type)) {
    say(tab, { kind: "error", text: `${file.name} is no picture that can be opened; drop a PNG, JPEG or WebP.` });
    return;
  }
  if (tab !== "edit") {
    say(tab, { kind: "info", text: `Opening ${file.name} ...` });
    const why = await damage(file);
    if (why) {
      say(tab, { kind: "error", text: why });
      return;
    }
  }
  const src = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  say(tab, null);
  await send("edit", "reopen-edit", { src, name: file.name });
}

// A picture without settings of any studio is there to be worked on.
async function take(file, tab, wanted) {
  if (WEIGHTS.test(file.name)) {
    await hand(file, tab);
    return;
  }
  if (wanted === "settings") {
    const why = await restore(file, tab);
    if (why === true) return;
    if (!hasTab("edit") || !PICTURES.includes(file.type)) {
      say(tab, { kind: "error", text: why });
      return;
    }
  }
  await open(file, tab);
}

const carriesFile = (e) => [...(e.dataTransfer?.types || [])].includes("Files");
// Gradio's own upload fields keep what is dropped on them.
const ownField = (e) => e.target.closest?.('[data-testid="image"], .image-container, [data-testid="file-upload"], .lcm-keeps-drops, .upload-container');
const shownTab = () => document.querySelector('.lcm-tabs button[role="tab"][aria-selected="true"]:not(.lcm-group)')?.textContent.trim().toLowerCase();
let depth = 0;

function armPage() {
  const half = (words, more) => h("p", {}, h("strong", {}, words), h("small", {}, more));
  const halves = { settings: half("Restore its settings", "of a picture with settings"), picture: half("Open it in Edit", "to work on it") };
  const veil = h("div", { className: "lcm-veil", hidden: true }, ...Object.values(halves));
  const wanted = (e) => (e.clientX < innerWidth / 2 ? "settings" : "picture");
  document.body.append(veil);
  addEventListener("dragenter", (e) => { if (carriesFile(e) && !ownField(e)) { depth += 1; veil.hidden = false; } });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) veil.hidden = true; });
  addEventListener("dragover", (e) => {
    if (!carriesFile(e) || ownField(e)) return;
    e.preventDefault();
    for (const [name, node] of Object.entries(halves)) node.toggleAttribute("data-over", name === wanted(e));
  });
  addEventListener("drop", (e) => {
    depth = 0;
    veil.hidden = true;
    if (!carriesFile(e) || ownField(e) || !e.dataTransfer.files.length) return;
    e.preventDefault();
    take(e.dataTransfer.files[0], shownTab() || "create", hasTab("edit") ? wanted(e) : "settings");
  });
}

// A picture from the clipboard is there to be worked on. Text that comes with one goes into the field that it was pasted in.
function armPaste() {
  addEventListener("paste", (e) => {
    const file = [...(e.clipboardData?.files || [])].find((one) => PICTURES.includes(one.type));
    const typing = e.target.closest?.("input, textarea, [contenteditable]") && [...e.clipboardData.types].includes("text/plain");
    if (!file || typing || !hasTab("edit") || document.querySelector("dialog[open]")) return;
    e.preventDefault();
    open(new File([file], "The pasted picture", { type: file.type }), shownTab() || "create");
  });
}

export function mountDrop(tab, root) {
  const chosen = async () => {
    const why = await restore(input.files[0], tab);
    if (why !== true) say(tab, { kind: "error", text: why });
    input.value = "";
  };
  const input = h("input", { type: "file", accept: "image/png", id: `${tab}-restore-file`, onchange: () => input.files.length && chosen() });
  root.replaceChildren(h("label", { className: "lcm-drop" }, input, h("span", {}, "Drop or paste a picture anywhere, or ", h("u", {}, "choose a studio PNG"), " to restore its settings")));
  if (document.querySelector(".lcm-veil")) return;
  armPage();
  armPaste();
}

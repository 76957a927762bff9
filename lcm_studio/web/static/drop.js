// A PNG with settings, dropped anywhere on the page or chosen here, restores them.
import { h, hasTab, say, send, tabOf, url } from "./registry.js";

async function restore(file, tab) {
  say(tab, { kind: "info", text: `Reading the settings of ${file.name} ...` });
  const answer = await fetch(url("studio/settings"), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
  const data = answer ? await answer.json().catch(() => ({})) : {};
  if (!answer || !answer.ok) {
    say(tab, { kind: "error", text: data.detail || "The file could not be read; is the studio still running?" });
    return;
  }
  const target = tabOf(data.settings);
  if (!hasTab(target)) {
    say(tab, { kind: "error", text: "This picture's settings belong to a tab that this studio does not have." });
    return;
  }
  await send(target, `restore-${target}`, data.settings);
  say(target, { kind: "info", text: `Settings restored from ${file.name}.` });
}

const carriesFile = (e) => [...(e.dataTransfer?.types || [])].includes("Files");
// Gradio's own upload fields keep what is dropped on them.
const ownField = (e) => e.target.closest?.('[data-testid="image"], .image-container, [data-testid="file-upload"], .lcm-keeps-drops, .upload-container');
let depth = 0;

function armPage(tab) {
  const veil = h("div", { className: "lcm-veil", hidden: true }, h("p", {}, "Drop the PNG to restore its settings"));
  document.body.append(veil);
  addEventListener("dragenter", (e) => { if (carriesFile(e) && !ownField(e)) { depth += 1; veil.hidden = false; } });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) veil.hidden = true; });
  addEventListener("dragover", (e) => { if (carriesFile(e) && !ownField(e)) e.preventDefault(); });
  addEventListener("drop", (e) => {
    depth = 0;
    veil.hidden = true;
    if (!carriesFile(e) || ownField(e) || !e.dataTransfer.files.length) return;
    e.preventDefault();
    restore(e.dataTransfer.files[0], tab);
  });
}

export function mountDrop(tab, root) {
  const input = h("input", { type: "file", accept: "image/png", id: `${tab}-restore-file`, onchange: () => input.files.length && restore(input.files[0], tab).finally(() => (input.value = "")) });
  root.replaceChildren(h("label", { className: "lcm-drop" }, input, h("span", {}, "Drop a studio PNG anywhere, or ", h("u", {}, "choose one"), ", to restore its settings")));
  if (!document.querySelector(".lcm-veil")) armPage(tab);
}

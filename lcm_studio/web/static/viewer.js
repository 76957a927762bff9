// One picture, large; Esc or a click closes it.
import { h, shape, url } from "./registry.js";

export function openViewer(frame) {
  const dialog = h("dialog", { className: "lcm-viewer", ariaLabel: "Picture" }, h("img", { src: frame.url ? url(frame.url) : frame.src, alt: frame.settings?.prompt || "", onload: (e) => shape(e.target) }), frame.settings ? h("p", {}, frame.settings.prompt || "") : null);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

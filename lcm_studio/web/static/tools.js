// The tools as icons, each with one line; Gradio draws the radio buttons that they are.
import { icon } from "./edit/icons.js";
import { h } from "./registry.js";

export function mountTools(tab, root, ctx) {
  const { props } = ctx;
  const group = document.getElementById(`${tab}-tool`);
  if (!group) { // Gradio has drawn this mount first
    requestAnimationFrame(() => mountTools(tab, root, ctx));
    return;
  }
  const dress = () => {
    for (const input of group.querySelectorAll('input[type="radio"]')) {
      const label = input.closest("label");
      if (label.querySelector(".lcm-icon")) continue;
      const words = props.value[input.value] || "";
      input.ariaLabel = label.textContent.trim();
      input.setAttribute("aria-description", words);
      label.title = words;
      label.prepend(icon(input.value));
      label.append(h("small", { ariaHidden: "true" }, words));
    }
  };
  new MutationObserver(dress).observe(group, { childList: true, subtree: true });
  dress();
}

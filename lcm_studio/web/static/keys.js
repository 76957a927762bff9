// Ctrl+Enter presses the visible tab's main button, Esc its Stop.
const visible = (node) => node && node.offsetParent !== null;
const press = (suffix) => [...document.querySelectorAll(`button[id$="-${suffix}"]`)].find(visible)?.click();

addEventListener(
  "keydown",
  (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      e.stopPropagation();
      press("go");
    } else if (e.key === "Escape" && !document.querySelector("dialog[open]")) press("stop");
  },
  true,
);

// Ctrl+Enter presses the visible tab's main button. Esc closes what is open; only where nothing is, it stops what runs here.
const visible = (node) => node && node.offsetParent !== null;
const press = (selector) => [...document.querySelectorAll(selector)].find(visible)?.click();

// What Esc closes by itself: dialogs, and the open lists of Gradio's dropdowns.
const open = () => document.querySelector("dialog[open]") || [...document.querySelectorAll('ul[role="listbox"]')].some(visible);

addEventListener(
  "keydown",
  (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      e.stopPropagation();
      press("button.lcm-go");
    } else if (e.key === "Escape" && !e.repeat && !open() && !e.target.closest?.('[aria-haspopup], [role="combobox"], select')) {
      press("[data-busy] button.lcm-stop");
    }
  },
  true,
);

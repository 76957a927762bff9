// The picture stays in the window beside its controls. A column taller than the window sticks by its lower end, so that
// scrolling shows what is below the picture first.
const MARGIN = 16;
const heights = new ResizeObserver((entries) => entries.forEach((entry) => place(entry.target)));

function place(column) {
  const top = Math.min(MARGIN, innerHeight - column.offsetHeight - MARGIN);
  column.style.setProperty("--lcm-top", `${top}px`);
}

function watch() {
  for (const column of document.querySelectorAll(".lcm-split > .lcm-left:not([data-sticks])")) {
    column.dataset.sticks = "1";
    heights.observe(column);
  }
}

new MutationObserver(watch).observe(document.documentElement, { childList: true, subtree: true }); // tabs are drawn on their first visit
addEventListener("resize", () => document.querySelectorAll("[data-sticks]").forEach(place));
watch();

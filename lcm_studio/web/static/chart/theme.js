// What charts and drawings take from the page: numbers as they are read, and the colours of the theme.
export const figure = (value) => {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.0995 ? value.toFixed(2) : size >= 0.00095 ? value.toFixed(3) : value.toExponential(1);
};

export const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
export const night = () => document.body.classList.contains("dark");
const watchers = new Set();
new MutationObserver(() => watchers.forEach((fn) => fn())).observe(document.body, { attributes: true, attributeFilter: ["class"] });
export const onTheme = (fn) => watchers.add(fn);

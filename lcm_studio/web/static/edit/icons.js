// Line icons of 24 x 24, drawn in the text's colour.
const PATHS = {
  brush: "M4 20c3 0 4-1.5 4-3.5S9.5 13 11 13M11 13l8.5-8.5a2 2 0 0 0-3-3L8 10",
  eraser: "M8 20h12M5 15l8-9a2 2 0 0 1 3 0l3 3a2 2 0 0 1 0 3l-7 8H9l-4-3a1.5 1.5 0 0 1 0-2z",
  rectangle: "M4 6h16v12H4z",
  lasso: "M12 5c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM7 14c-1 2 0 5 3 6",
  wand: "M4 20 14 10M16 3v4M14 5h4M19 10v3M17.5 11.5h3M9 4v2M8 5h2",
  pick: "M4 20l1-4 9-9 3 3-9 9zM14 5l2-2a2 2 0 0 1 3 0l2 2a2 2 0 0 1 0 3l-2 2z",
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M15 14l5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  invert: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  clear: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  inpaint: "M4 20c3 0 4-1.5 4-3.5S9.5 13 11 13M11 13l8.5-8.5a2 2 0 0 0-3-3L8 10M14 20h6",
  outpaint: "M8 8h8v8H8zM4 12H1m3-2-2 2 2 2M20 12h3m-3-2 2 2-2 2M12 4V1m-2 3 2-2 2 2M12 20v3m-2-3 2 2 2-2",
  colorize: "M12 3s6 6.5 6 11a6 6 0 0 1-12 0c0-4.500 6-11 6-11z",
  superres: "M4 14v6h6M20 10V4h-6M4 20l7-7M20 4l-7 7",
  denoise: "M5 6h.01M9 4h.01M13 7h.01M7 10h.01M4 14h.01M10 13h.01M6 18h.01M12 18h8M14 14h6M16 10h4",
  deblur: "M12 5a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM12 9.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5z",
  sketch: "M4 17c3-8 5 4 8-2s4-8 8-4M4 21h16",
  interpolate: "M4 6h6v6H4zM14 12h6v6h-6zM10 9h4a3 3 0 0 1 3 3",
};

const PLAIN = "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10z"; // of a tool that brings no drawing

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("lcm-icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name] || PLAIN);
  svg.append(path);
  return svg;
}

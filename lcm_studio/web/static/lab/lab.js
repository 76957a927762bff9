// The Lab tab: two benches, and the address that brings one back. Loaded when the tab is opened first.
import { h, registry, url } from "../registry.js";
import { choice } from "./parts.js";
import { Plane } from "./plane.js";
import { post } from "./wire.js";

const CSS = url("studio/static/lab/lab.css");

// The settings behind "#lab/" in the page's address.
const settings = () => new URLSearchParams(location.hash.replace(/^#lab\/?/, ""));

export function address(values) {
  history.replaceState(null, "", `#lab/${values}`);
  return location.href;
}

export async function mountLab(root) {
  await new Promise((resolve) => document.head.append(h("link", { rel: "stylesheet", href: CSS, onload: resolve, onerror: resolve })));
  const given = settings();
  const benches = h("div", { className: "lab" });
  const about = h("p", { className: "lab-about" });
  const note = h("div", { className: "lcm" }); // of what is dropped on the page
  registry.set("note", "lab", note);
  const places = {};
  const made = {};
  const words = {
    plane: "Data of two numbers, so that everything can be seen: noise, the score that points back, and four families of ways down to the data.",
    pictures: "The same samplers on real networks: one prompt and seed, equal evaluations, side by side.",
  };

  async function show(name) {
    about.textContent = words[name];
    for (const [key, node] of Object.entries(places)) node.hidden = key !== name;
    if (!made[name]) made[name] = await make[name](places[name], given.get("bench") === name ? given : new URLSearchParams());
    root.closest(".lcm")?.setAttribute("data-bench", name);
  }

  const make = {
    async plane(place, values) {
      const schema = await (await post("plane/schema", {})).json();
      const plane = new Plane(schema, { onlink: address });
      place.replaceChildren(plane.node);
      plane.start(values);
      return plane;
    },
    async pictures(place, values) {
      const { Pictures } = await import("./pictures.js");
      const schema = await (await post("pictures/schema", {})).json();
      const pictures = new Pictures(schema, { onlink: address });
      place.replaceChildren(pictures.node);
      pictures.start(values);
      return pictures;
    },
  };
  const options = [["plane", "On the plane"], ["pictures", "On pictures"]];
  for (const [name] of options) places[name] = h("div", { className: "lab-bench", hidden: true }, h("p", { className: "lcm-soft" }, "Opening …"));
  const open = async (name) => {
    try {
      await show(name);
    } catch (error) {
      places[name].replaceChildren(h("div", { className: "lcm-note lcm-error", role: "alert" }, error.message));
    }
  };
  const first = places[given.get("bench")] ? given.get("bench") : "plane";
  benches.replaceChildren(h("header", { className: "lab-head" }, choice("Bench", options, first, open), about), note, ...Object.values(places));
  root.replaceChildren(benches);
  await open(first);
}

// The header: the model's state, and the light and dark switch.
import { galleryButton } from "./gallery.js";
import { field, h, registry, url } from "./registry.js";

const words = { idle: "starting", loading: "loading", ready: "ready", failed: "not loaded", waiting: "loads when it is used" };
const shown = (id) => document.getElementById(id)?.offsetParent;
const chosen = () => field(shown("edit-model") ? "edit-model" : "create-model")?.value;
// The name of a model; of one without, its id without folders.
const title = (id) => registry.get("model-name", id) || String(id).replace(/\/(output)?\/?$/, "").split("/").pop();

function theme(next) {
  const dark = next === "dark";
  document.body.classList.toggle("dark", dark);
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
}

// What comes from the hub, at the edge of the page, whichever tab is shown.
let panel = null;
function progress({ status, done, total, message }) {
  if (status !== "loading" || !total) {
    panel?.remove();
    panel = null;
    return;
  }
  if (!panel) {
    const stop = (e) => {
      e.target.disabled = true;
      fetch(url("studio/stop-download"), { method: "POST" }).catch(() => (e.target.disabled = false));
    };
    panel = h("div", { className: "lcm-sending lcm-download", role: "status" }, h("span"), h("progress", { max: 1, "aria-label": "Download" }), h("button", { type: "button", onclick: stop }, "Stop"));
    document.body.append(panel);
  }
  if (panel.firstChild.textContent !== message) panel.firstChild.textContent = message;
  panel.children[1].value = done / total;
}

export function mountHeader(_tab, root, { props }) {
  const pill = h("span", { className: "lcm-pill", role: "status", "data-state": "idle" }, h("i"), h("span", {}, "starting"));
  const saved = localStorage.getItem("lcm-theme");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  theme(saved || (document.body.classList.contains("dark") ? "dark" : system));
  const toggle = h("button", { type: "button", className: "lcm-theme", title: "Light or dark", ariaLabel: "Switch between light and dark", onclick: () => {
    const next = document.body.classList.contains("dark") ? "light" : "dark";
    localStorage.setItem("lcm-theme", next);
    theme(next);
  } });
  const leave = props.value?.auth ? h("a", { className: "lcm-tool", href: url("studio/logout") }, "Sign out") : null;
  root.replaceChildren(h("header", { className: "lcm-header" }, h("h1", {}, h("span", { className: "lcm-mark", ariaHidden: "true" }), "LCM Studio"), h("span", { className: "lcm-grow" }), props.value?.tools ? galleryButton(props.value.tools) : null, pill, leave, toggle));

  let start = null;

  // A request that the studio has forgotten must not look as if it ran.
  const lost = (why) => document.dispatchEvent(new CustomEvent("lcm-lost", { detail: why }));

  async function poll() {
    let wait = 900;
    try {
      const state = await (await fetch(url("studio/state"))).json();
      if (start !== null && state.start !== start) lost("restarted");
      start = state.start;
      // The model that this page's form names, which need not be the one that somebody loaded last.
      const mine = chosen() || state.model || "";
      const status = mine === state.model ? state.status : (state.loaded || []).includes(mine) ? "ready" : "waiting";
      pill.dataset.state = status;
      pill.lastChild.textContent = `${title(mine)} ${words[status] || status}`.trim();
      pill.title = mine === state.model ? state.message || mine : mine;
      document.documentElement.dataset.model = state.status;
      progress(state);
      if (state.status === "ready") wait = 5000;
    } catch {
      pill.dataset.state = "failed";
      pill.lastChild.textContent = "no connection";
      lost("gone");
      wait = 3000;
    }
    setTimeout(poll, document.hidden ? 15000 : wait);
  }
  poll();
}

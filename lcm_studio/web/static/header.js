// The header: the model's state, and the light and dark switch.
import { h, url } from "./registry.js";

const words = { idle: "starting", loading: "loading", ready: "ready", failed: "not loaded" };

function theme(next) {
  const dark = next === "dark";
  document.body.classList.toggle("dark", dark);
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
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
  root.replaceChildren(h("header", { className: "lcm-header" }, h("h1", {}, h("span", { className: "lcm-mark", ariaHidden: "true" }), "LCM Studio"), h("span", { className: "lcm-grow" }), pill, leave, toggle));

  async function poll() {
    let wait = 900;
    try {
      const state = await (await fetch(url("studio/state"))).json();
      pill.dataset.state = state.status;
      const name = String(state.model || "").split("/").pop();
      pill.lastChild.textContent = state.status === "ready" ? `${name} ready` : `${name} ${words[state.status] || state.status}`.trim();
      pill.title = state.message || "";
      document.documentElement.dataset.model = state.status;
      if (state.status === "ready") wait = 5000;
    } catch {
      pill.dataset.state = "failed";
      pill.lastChild.textContent = "no connection";
      wait = 3000;
    }
    setTimeout(poll, document.hidden ? 15000 : wait);
  }
  poll();
}

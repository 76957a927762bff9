// A LoRA or textual inversion from this computer: sent to the studio, then named in the form of Create.
import { h, say, send, url } from "./registry.js";

const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MB`;

// `tab`: where the user looks. The studio's gate says what it does not take, and why.
export async function hand(file, tab, { limit = Infinity, instead = "use a smaller one" } = {}) {
  const fail = (text) => say(tab, { kind: "error", text });
  if (file.size > limit) {
    fail(`${file.name} is larger than ${megabytes(limit)}; ${instead}.`);
    return;
  }
  say(tab, { kind: "info", text: `Sending ${file.name} (${megabytes(file.size)}) ...` });
  const answer = await fetch(url(`studio/lora?name=${encodeURIComponent(file.name)}`), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
  const data = answer ? await answer.json().catch(() => ({})) : {};
  if (!answer?.ok) {
    fail(data.detail || "The file could not be sent; is the studio still running?");
    return;
  }
  say(tab, null);
  await send("create", "lora-create", data);
}

export function mountLora(tab, root, { props }) {
  const { limit, instead } = props.value || {};
  const take = () => input.files.length && hand(input.files[0], tab, { limit, instead }).finally(() => (input.value = ""));
  const input = h("input", { type: "file", accept: ".safetensors", id: `${tab}-lora-file`, onchange: take });
  root.replaceChildren(h("label", { className: "lcm-drop lcm-keeps-drops" }, input, h("span", {}, "Add a LoRA or a textual inversion: drop it anywhere, or ", h("u", {}, "choose a .safetensors file"), ` of at most ${megabytes(limit || Infinity)}`)));
}

// A LoRA or textual inversion from this computer: sent to the studio, then named in the form.
import { h, registry, say, url } from "./registry.js";

export function mountLora(tab, root, { props }) {
  const limit = props.value?.limit || Infinity;
  const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MB`;
  const input = h("input", { type: "file", accept: ".safetensors", id: `${tab}-lora-file`, onchange: () => input.files.length && take(input.files[0]).finally(() => (input.value = "")) });
  root.replaceChildren(h("label", { className: "lcm-drop lcm-keeps-drops" }, input, h("span", {}, "Add a LoRA or a textual inversion from this computer: ", h("u", {}, "choose a .safetensors file"), ` of at most ${megabytes(limit)}`)));

  async function take(file) {
    const fail = (text) => say(tab, { kind: "error", text });
    if (file.size > limit) {
      fail(`${file.name} is larger than ${megabytes(limit)}; ${props.value?.instead || "use a smaller one"}.`);
      return;
    }
    say(tab, { kind: "info", text: `Sending ${file.name} (${megabytes(file.size)}) ...` });
    const answer = await fetch(url(`studio/lora?name=${encodeURIComponent(file.name)}`), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
    const data = answer ? await answer.json().catch(() => ({})) : {};
    if (answer?.ok) registry.get("channel", `lora-${tab}`)?.(data);
    else fail(data.detail || "The file could not be sent; is the studio still running?");
  }
}

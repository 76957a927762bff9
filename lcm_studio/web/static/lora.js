// Weights from this computer: a LoRA or textual inversion is named in the form of Create, a whole checkpoint becomes its model.
import { h, say, send, url } from "./registry.js";

const MOST_HEADER = 8 * 2 ** 20;
const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MB`;
const amount = (bytes) => (bytes < 2 ** 30 ? megabytes(bytes) : `${(bytes / 2 ** 30).toFixed(1)} GB`);
const GONE = "The file could not be sent; is the studio still running?";

// A safetensors file begins with its header's length and its header; of other files the gate wants to see the name alone.
async function headOf(file) {
  const first = await file.slice(0, 8).arrayBuffer();
  const length = first.byteLength === 8 ? Number(new DataView(first).getBigUint64(0, true)) : 0;
  return file.slice(0, length <= MOST_HEADER ? 8 + length : 8);
}

async function post(path, file, body) {
  const query = `name=${encodeURIComponent(file.name)}&size=${file.size}`;
  const answer = await fetch(url(`studio/${path}?${query}`), { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } }).catch(() => null);
  const data = answer ? await answer.json().catch(() => ({})) : {};
  return { data, why: answer?.ok ? "" : data.detail || GONE };
}

// `tab`: where the user looks. The studio's gate says what a file is, or why it does not take it, before the weights are sent.
export async function hand(file, tab, { limit = Infinity, instead = "use a smaller one" } = {}) {
  const fail = (text) => say(tab, { kind: "error", text });
  say(tab, { kind: "info", text: `Reading ${file.name} (${amount(file.size)}) ...` });
  const told = await post("weights", file, await headOf(file));
  if (told.why) return fail(told.why);
  if (told.data.kind === "model") return sendModel(file, tab);
  if (file.size > limit) return fail(`${file.name} is larger than ${megabytes(limit)}; ${instead}.`);
  say(tab, { kind: "info", text: `Sending ${file.name} (${megabytes(file.size)}) ...` });
  const { data, why } = await post("lora", file, file);
  if (why) return fail(why);
  say(tab, null);
  await send("create", "lora-create", data);
}

let sending = null;

// With progress, and a button that ends it; one at a time.
function sendModel(file, tab) {
  if (sending) return say(tab, { kind: "error", text: `${sending} is still being sent; wait for it, or stop it.` });
  sending = file.name;
  say(tab, null);
  const request = new XMLHttpRequest();
  const text = h("span", {}, "");
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Sending ${file.name}` });
  const stay = (e) => e.preventDefault(); // the browser asks before the page is left
  const panel = h("div", { className: "lcm-sending", role: "status" }, text, bar, h("button", { type: "button", onclick: () => request.abort() }, "Stop"));
  const show = (share) => {
    const words = `Sending ${file.name}: ${Math.floor(100 * share)}% of ${amount(file.size)}`;
    if (text.textContent !== words) text.textContent = words;
    bar.value = share;
  };
  show(0);
  document.body.append(panel);
  addEventListener("beforeunload", stay);
  request.upload.onprogress = (e) => show(e.loaded / file.size);
  request.upload.onload = () => (text.textContent = `Checking ${file.name} ...`);
  return new Promise((resolve) => {
    request.onabort = () => say(tab, { kind: "info", text: `${file.name} was not added.` });
    request.onerror = () => say(tab, { kind: "error", text: GONE });
    request.onload = async () => {
      let data = {};
      try {
        data = JSON.parse(request.responseText);
      } catch {
        // a proxy's page in place of our answer
      }
      if (request.status !== 200) return say(tab, { kind: "error", text: data.detail || `The studio answered ${request.status}.` });
      say("create", { kind: "info", text: `Loading ${data.name} ...` });
      await send("create", "model-create", data.name);
    };
    request.onloadend = () => {
      sending = null;
      panel.remove();
      removeEventListener("beforeunload", stay);
      resolve();
    };
    request.open("POST", url(`studio/model?name=${encodeURIComponent(file.name)}&size=${file.size}`));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(file);
  });
}

export function mountLora(tab, root, { props }) {
  const { limit, instead } = props.value || {};
  const take = () => input.files.length && hand(input.files[0], tab, { limit, instead }).finally(() => (input.value = ""));
  const input = h("input", { type: "file", accept: ".safetensors", id: `${tab}-lora-file`, onchange: take });
  root.replaceChildren(h("label", { className: "lcm-drop lcm-keeps-drops" }, input, h("span", {}, "Add a LoRA, a textual inversion or a whole checkpoint: drop it anywhere, or ", h("u", {}, "choose a .safetensors file"))));
}

// What the modules know of each other: stages, notes and channels by name.
const things = new Map();
const waiting = new Map();

export const registry = {
  set(kind, name, thing) {
    const key = `${kind}/${name}`;
    things.set(key, thing);
    for (const resolve of waiting.get(key) || []) resolve(thing);
    waiting.delete(key);
  },
  get: (kind, name) => things.get(`${kind}/${name}`),
  when(kind, name) {
    const key = `${kind}/${name}`;
    if (things.has(key)) return Promise.resolve(things.get(key));
    return new Promise((resolve) => {
      waiting.set(key, [...(waiting.get(key) || []), resolve]);
    });
  },
};

export function h(tag, attrs = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}

export const url = (path) => new URL(path, document.baseURI).href;

// An answer replaces all that was said but the word on a press that it does not answer; a remark of `from` replaces its own
// last one. Nothing is said twice.
export function say(tab, message, from = "") {
  const note = registry.get("note", tab);
  if (!note) return;
  for (const said of [...note.children]) if (from ? said.dataset.from === from : said.dataset.from !== "press") said.remove();
  if (!message || !message.text || [...note.children].some((said) => said.textContent === message.text)) return;
  const error = message.kind === "error";
  note.append(h("div", { className: `lcm-note lcm-${message.kind}`, role: error ? "alert" : "status", "data-from": from }, message.text));
  if (error) bring(note.lastChild);
}

// An error is brought into the window where it lies outside, as when the button is pinned below a long form.
function bring(node) {
  const { top, bottom } = node.getBoundingClientRect();
  if (node.offsetParent && (top < 0 || bottom > innerHeight)) node.scrollIntoView({ block: "center" });
}

// Width over height of a picture that has come, for the styles of `node`: they give it all the room that there is.
export const shape = (img, node = img) => node.style.setProperty("--ratio", img.naturalWidth / Math.max(1, img.naturalHeight));

// Type into a Gradio text field as a hand would, so that its listeners hear it.
export function type(field, value) {
  const proto = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
  Object.getOwnPropertyDescriptor(proto.prototype, "value").set.call(field, value);
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

export const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);

// Settings name their tab: an edit carries its task.
export const tabOf = (settings) => (settings && settings.task ? "edit" : "create");

const tabButton = (tab) =>
  [...document.querySelectorAll('.lcm-tabs button[role="tab"]:not(.lcm-group)')].find(
    (b) => b.textContent.trim().toLowerCase() === tab,
  );

export const hasTab = (tab) => Boolean(tabButton(tab));

export function showTab(tab) {
  const button = tabButton(tab);
  if (button && button.getAttribute("aria-selected") !== "true") button.click();
}

// Opens a tab, which Gradio draws on its first visit, and sends it data.
export async function send(tab, channel, data) {
  showTab(tab);
  (await registry.when("channel", channel))(data);
}

// The JSON objects of a stream, each as soon as its line is there.
export async function readLines(stream, take) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) take(JSON.parse(line));
  }
}

// Live sketch: one step while the hand moves, more when it rests; only the newest is asked for.
import { held } from "../forms.js";
import { field, readLines, registry, say, url } from "../registry.js";

const REST = 350;

// What the controls of the tool's settings hold, by name.
function settings() {
  const out = {};
  for (const block of document.querySelectorAll('.lcm-settings .block[id^="edit-"], #edit-schedule .block[id^="edit-"]')) {
    const input = block.querySelector('input[type="number"], input[type="checkbox"], input[type="text"], input:not([type]), textarea');
    const value = input?.type === "checkbox" ? input.checked : input?.value;
    if (value !== undefined) out[block.id.slice(5).replaceAll("-", "_")] = value;
  }
  return out;
}

// What the blocks of the ControlNet and the IP-Adapter hold, by name.
const steering = () => Object.fromEntries(Object.entries(held("edit")).filter(([name]) => /^(control|ip_adapter)/.test(name)));

export const live = {
  busy: null,
  next: null,
  timer: 0,
  on: () => document.querySelector("#edit-live input")?.checked,
  change(desk) {
    if (desk.tool !== "sketch" || !this.on()) return;
    clearTimeout(this.timer);
    if (this.busy?.refine) this.busy.abort.abort();
    this.next = desk;
    this.pump();
  },
  async pump() {
    if (this.busy || !this.next) return;
    const desk = this.next;
    this.next = null;
    await this.ask(desk, false);
    if (this.next) this.pump();
    else this.timer = setTimeout(() => this.ask(desk, true), REST);
  },
  async ask(desk, refine) {
    const abort = new AbortController();
    const busy = (this.busy = { refine, abort });
    const number = (id) => Number(field(id)?.value);
    const alone = document.querySelector("#edit-only-strokes input")?.checked;
    const form = { image: desk.layers.together(), strokes: alone ? desk.layers.strokes.toDataURL("image/png") : "", prompt: field("edit-prompt")?.value || "", steps: refine ? number("edit-steps") : 1, guidance: number("edit-guidance"), guided_steps: number("edit-guided-steps"), settings: settings(), steering: steering(), seed: number("edit-seed"), randomize: document.querySelector("#edit-randomize input")?.checked, model: field("edit-model")?.value || "", refine };
    try {
      const answer = await fetch(url("studio/sketch"), { method: "POST", signal: abort.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(form) });
      if (!answer.ok) {
        const data = await answer.json().catch(() => ({}));
        say(desk.tab, { kind: "error", text: data.detail || `The studio answered ${answer.status}.` });
        return;
      }
      await readLines(answer.body, (value) => {
        registry.get("stage", desk.tab)?.draw(value);
        performance.mark("lcm-live");
      });
    } catch (error) {
      if (error.name !== "AbortError") say(desk.tab, { kind: "error", text: "The studio does not answer; is it still running?" });
    } finally {
      if (this.busy === busy) this.busy = null;
      if (refine && this.next) this.pump();
    }
  },
};

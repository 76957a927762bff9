// Live: one step at once for the newest values, the full number of steps when the hand rests; nothing queues up.
import { arrive } from "./place.js";
import { h, readLines, registry, say, url } from "./registry.js";

const REST = 400;

class Live {
  constructor(tab) {
    this.tab = tab;
    this.busy = null; // the request under way: {refine, abort}
    this.next = null; // the newest values that have not been asked for
    this.timer = 0;
    this.serial = 0;
  }

  // Called by Gradio whenever a control changes; `form` is name -> value.
  change(form) {
    this.form = form;
    this.serial += 1;
    clearTimeout(this.timer);
    if (this.busy?.refine) this.busy.abort.abort();
    if (!form.live) {
      this.timer = setTimeout(() => this.check(form), 300);
      return;
    }
    this.next = form;
    this.pump();
  }

  async pump() {
    if (this.busy || !this.next) return;
    const form = this.next;
    this.next = null;
    const serial = this.serial;
    await this.ask(form, false);
    if (this.next) {
      this.pump();
    } else if (serial === this.serial) {
      this.timer = setTimeout(() => this.ask(form, true), REST);
    }
  }

  async ask(form, refine) {
    const abort = new AbortController();
    const busy = (this.busy = { refine, abort });
    try {
      const answer = await fetch(url("studio/live"), { method: "POST", signal: abort.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ form, refine }) });
      if (!answer.ok) {
        const data = await answer.json().catch(() => ({}));
        say(this.tab, { kind: "error", text: data.detail || `The studio answered ${answer.status}.` });
        return;
      }
      await readLines(answer.body, (value) => this.show(value));
    } catch (error) {
      if (error.name !== "AbortError") say(this.tab, { kind: "error", text: "The studio does not answer; is it still running?" });
    } finally {
      if (this.busy === busy) this.busy = null;
      if (refine && this.next) this.pump();
    }
  }

  show(value) {
    registry.get("stage", this.tab)?.draw(value);
    performance.mark("lcm-live");
  }

  async check(form) {
    const answer = await fetch(url("studio/check"), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ form }) }).catch(() => null);
    if (!answer || form !== this.form) return;
    const data = await answer.json().catch(() => ({}));
    say(this.tab, data.message, "check");
    this.count(data.tokens);
  }

  // Tokens of the prompt, of those that fit into the chunks that it takes.
  count(tokens) {
    const block = document.getElementById(`${this.tab}-prompt`);
    let place = block?.querySelector(".lcm-count");
    if (!tokens || !tokens[0]) return place?.remove();
    if (!place) block.append((place = h("span", { className: "lcm-count", title: "Tokens of the prompt, of those that fit. A longer one is read in several chunks." })));
    place.textContent = `${tokens[0]} of ${tokens[1]} tokens`;
  }
}

export function mountLive(tab) {
  const live = new Live(tab);
  registry.set("live", tab, live);
  document.documentElement.dataset.studio = "ready";
  arrive();
  // Gradio's browser-side listeners are plain strings; they find these here.
  window.lcm = window.lcm || {};
  window.lcm.live = (name, form) => registry.get("live", name)?.change(form);
  window.lcm.lastSeed = (name) => registry.get("stage", name)?.lastSeed ?? null;
}

// One request at a time: the button that starts it, Stop, how far it is, and what went wrong.
import { h } from "../registry.js";
import { noteplace, progress } from "./parts.js";
import { Latest, messages } from "./wire.js";

export class Work {
  // `id`: of the buttons, before "go" and "stop". `start` and `halt`: what they do.
  constructor(id, title, start, halt = () => this.halt()) {
    this.latest = new Latest();
    this.note = noteplace();
    this.progress = progress();
    this.go = h("button", { type: "button", className: "lab-go lcm-go", id: `${id}go`, onclick: start }, title);
    this.stop = h("button", { type: "button", className: "lab-halt lcm-stop", id: `${id}stop`, disabled: true, onclick: halt }, "Stop");
    this.actions = h("div", { className: "lcm-actions lab-actions" }, this.go, this.stop);
    this.nodes = [this.actions, this.progress, this.note];
  }

  // The signal of a request that begins; the one before is stopped.
  begin() {
    this.halt();
    this.note.say("");
    this.busy(true);
    this.progress.show(0, "starting");
    return this.latest.start();
  }

  // Gives `take` each message of an answer that comes; whether all of them came. What goes wrong is said.
  async follow(answer, signal, take) {
    try {
      for await (const message of messages(await answer)) {
        if (signal.aborted) return false;
        take(message);
      }
    } catch (error) {
      if (error.name === "AbortError") return false;
      this.busy(false);
      this.note.say(error.message);
      return false;
    }
    if (signal.aborted) return false;
    this.busy(false);
    return true;
  }

  halt() {
    this.latest.stop();
    this.busy(false);
  }

  busy(on) {
    this.go.disabled = on;
    this.stop.disabled = !on;
    this.actions.toggleAttribute("data-busy", on);
    if (!on) this.progress.show(null);
  }
}

// What a view does with a message: it shows progress, and has a method for every other kind.
export const told = (view) => (message) => {
  if (message.kind === "progress") view.work.progress.show(message.share, message.text);
  else view[message.kind]?.(message);
};

// The gallery: all pictures and animations of the output folder, by day; search, stars, large view with arrow keys, many at once.
import { h, registry, send, shape, showTab, tabOf, url } from "./registry.js";

const REST = 250; // after the last key of a search
const post = (act, ids) => fetch(url(`studio/gallery/${act}`), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ids }) });
const place = (kind, entry) => url(`studio/gallery/${kind}/${entry.id}?v=${entry.version}`);
const kindOf = (entry) => entry.id.split(".").pop().toUpperCase(); // PNG, or an animation: GIF, MP4
const until = (there) => new Promise((done) => { const look = () => (there() ? done() : setTimeout(look, 50)); look(); });

class Gallery {
  constructor(tools) {
    this.tools = tools;
    this.entries = [];
    this.chosen = new Set();
    this.at = -1; // the one that is large
    const act = (words, title, run) => h("button", { type: "button", className: "lcm-tool", title, onclick: run }, words);
    this.search = h("input", { type: "search", placeholder: "Words, or settings: steps=4 seed=7", ariaLabel: "Search prompts and settings", oninput: () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.load(), REST); } });
    this.starred = h("input", { type: "checkbox", onchange: () => this.load() });
    this.count = h("span", { className: "lcm-soft", role: "status" });
    this.note = h("p", { className: "lcm-note lcm-error", role: "alert", hidden: true });
    this.grid = h("div", { className: "lcm-days" });
    this.more = act("Show more", "Older pictures", () => this.load(this.entries.length));
    this.remove = act("Delete", "Remove the files for good", () => this.delete());
    this.target = h("select", { ariaLabel: "Open in a tool", onchange: () => this.openIn(this.target.value) }, h("option", { value: "" }, "Open in ..."), ...tools.map(([title, name]) => h("option", { value: name }, title)));
    this.mark = act("Star", "", () => this.star());
    this.turn = h("span", { className: "lcm-pens" }, act("Back to all", "Esc", () => this.show(-1)), act("Previous", "Arrow key to the left", () => this.step(-1)), act("Next", "Arrow key to the right", () => this.step(1)));
    this.one = h("span", { className: "lcm-pens" }, act("Use settings", "Put this picture's settings into the form", () => this.use()), this.target);
    this.actions = h("div", { className: "lcm-bar", hidden: true }, this.turn, this.mark, act("Download", "One as it is, many as a zip", () => this.download()), this.remove, this.one, act("Choose none", "", () => { this.chosen.clear(); this.draw(); }));
    this.image = h("img", { alt: "", onload: () => shape(this.image) });
    this.video = h("video", { controls: true, loop: true, muted: true, autoplay: true, playsInline: true, hidden: true });
    this.words = h("p", {});
    this.large = h("figure", { className: "lcm-large", hidden: true }, this.image, this.video, h("figcaption", {}, this.words, h("small", { className: "lcm-keys" }, "Arrow keys: the next one. Esc: back to all.")));
    this.dialog = h(
      "dialog",
      { className: "lcm-gallery", tabIndex: -1, ariaLabel: "Gallery", onkeydown: (e) => this.key(e), oncancel: (e) => { if (this.at >= 0) { e.preventDefault(); this.show(-1); } }, onclose: () => this.closed() },
      h("header", { className: "lcm-bar" }, h("h2", {}, "Gallery"), this.search, h("label", {}, this.starred, " with a star"), this.count, h("span", { className: "lcm-grow" }), act("Close", "", () => this.dialog.close())),
      this.actions, this.note, this.large, this.grid, this.more,
    );
    this.focus = () => this.load(0, Math.max(1, this.entries.length));
  }

  async open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    addEventListener("focus", this.focus); // another tab may have changed something
    await this.load();
  }

  closed() {
    removeEventListener("focus", this.focus);
    this.dialog.remove();
  }

  say(text) {
    this.note.textContent = text || "";
    this.note.hidden = !text;
  }

  // A page of pictures from `first` on; only the newest question's answer counts.
  async load(first = 0, least = 0) {
    const serial = (this.serial = (this.serial || 0) + 1);
    const found = first ? [...this.entries] : [];
    try {
      do {
        const asked = new URLSearchParams({ search: this.search.value, stars: this.starred.checked ? "1" : "", from: String(found.length) });
        const answer = await fetch(url(`studio/gallery?${asked}`));
        const data = await answer.json();
        if (!answer.ok) throw new Error(data.detail);
        if (serial !== this.serial) return;
        found.push(...data.entries);
        this.total = data.total;
        if (!data.entries.length) break;
      } while (found.length < Math.min(least, this.total));
    } catch (error) {
      this.say(error.message || "The studio does not answer; is it still running?");
      return;
    }
    this.say("");
    const large = this.entries[this.at]?.id;
    this.entries = found;
    const there = new Set(found.map((e) => e.id));
    for (const id of this.chosen) if (!there.has(id)) this.chosen.delete(id);
    if (large) this.at = found.findIndex((e) => e.id === large);
    this.draw();
  }

  draw() {
    this.count.textContent = this.total ? `${this.total} picture${this.total > 1 ? "s" : ""}` : this.search.value || this.starred.checked ? "Nothing is like that." : "No pictures yet.";
    const days = new Map();
    this.entries.forEach((entry, i) => days.set(entry.day, [...(days.get(entry.day) || []), this.tile(entry, i)]));
    this.grid.replaceChildren(...[...days].map(([day, tiles]) => h("section", {}, h("h3", {}, day), h("div", { className: "lcm-tiles" }, ...tiles))));
    this.more.hidden = this.entries.length >= this.total;
    this.follow();
  }

  tile(entry, i) {
    const words = entry.settings.prompt || "no prompt";
    const tick = h("input", { type: "checkbox", checked: this.chosen.has(entry.id), ariaLabel: `Choose: ${words}`, onchange: () => { this.chosen[tick.checked ? "add" : "delete"](entry.id); this.follow(); } });
    return h("div", { className: "lcm-tile", "data-id": entry.id }, h("button", { type: "button", className: "lcm-thumb", title: words, ariaLabel: `Look at it large: ${words}`, onclick: () => this.show(i) }, h("img", { src: place("thumb", entry), alt: "", loading: "lazy" }), entry.star ? h("small", { title: "starred" }, "★") : null, kindOf(entry) === "PNG" ? null : h("small", { className: "lcm-kind" }, kindOf(entry))), tick);
  }

  // What the buttons are about: the large picture, else those that are chosen.
  get about() {
    return this.at >= 0 ? [this.entries[this.at]] : this.entries.filter((e) => this.chosen.has(e.id));
  }

  // Whether all of them have a star already.
  get starry() {
    return this.about.every((e) => e.star);
  }

  follow() {
    const { about } = this;
    const large = this.at >= 0;
    this.actions.hidden = !about.length;
    this.actions.lastChild.hidden = large;
    this.turn.hidden = !large;
    this.one.hidden = about.length !== 1;
    this.target.hidden = about.some((e) => kindOf(e) !== "PNG"); // the tools take pictures
    this.mark.textContent = this.starry ? "Remove star" : "Star";
    this.remove.textContent = "Delete";
    this.large.hidden = !large;
    const film = large && kindOf(about[0]) === "MP4";
    this.image.hidden = film;
    this.video.hidden = !film;
    if (!film) this.video.removeAttribute("src");
    this.grid.hidden = large;
    if (large) {
      const [entry] = about;
      const shown = film ? this.video : this.image;
      if (shown.src !== place("picture", entry)) shown.src = place("picture", entry);
      this.image.alt = entry.settings.prompt || "Picture";
      this.video.ariaLabel = `Animation: ${entry.settings.prompt || "no prompt"}`;
      const { prompt, seed, steps, model } = entry.settings;
      this.words.textContent = [entry.star ? "★" : "", prompt, seed === undefined ? "" : `seed ${seed}`, steps ? `${steps} steps` : "", model].filter(Boolean).join(" · ");
    }
  }

  show(i) {
    const before = this.at;
    this.at = i;
    this.follow();
    if (i < 0) this.grid.querySelectorAll("button.lcm-thumb")[before]?.focus();
    else this.dialog.focus();
  }

  async key(e) {
    if (e.target.closest("input[type=search], select")) return;
    if (e.key === "Escape" && this.at >= 0) {
      e.preventDefault();
      this.show(-1);
      return;
    }
    const way = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (!way || this.at < 0) return;
    e.preventDefault();
    await this.step(way);
  }

  // The picture after the large one, or before it.
  async step(way) {
    const next = this.at + way;
    if (next >= this.entries.length && next < this.total) await this.load(this.entries.length);
    if (this.entries[next]) this.show(next);
  }

  async act(act) {
    const answer = await post(act, this.about.map((e) => e.id)).catch(() => null);
    if (answer?.ok) return answer;
    const said = answer ? await answer.json().catch(() => ({})) : {};
    this.say(said.detail || "The studio does not answer; is it still running?");
    return null;
  }

  again() {
    return this.load(0, this.entries.length);
  }

  async star() {
    if (await this.act(this.starry ? "unstar" : "star")) await this.again();
  }

  async delete() {
    const { length } = this.about;
    if (this.remove.textContent === "Delete") {
      this.remove.textContent = length > 1 ? `Delete ${length} for good?` : "Delete it for good?";
      return;
    }
    const { at } = this;
    if (!(await this.act("delete"))) return;
    await this.again();
    if (at >= 0) this.show(Math.min(at, this.entries.length - 1));
  }

  async download() {
    const { about } = this;
    const file = (href, name) => h("a", { href, download: name }).click();
    if (about.length === 1) return file(place("picture", about[0]), about[0].id.split("/").pop());
    const answer = await this.act("download");
    if (!answer) return;
    const made = URL.createObjectURL(await answer.blob());
    file(made, "lcm-studio.zip");
    setTimeout(() => URL.revokeObjectURL(made), 60000);
  }

  use() {
    const [{ settings }] = this.about;
    if (!Object.keys(settings).length) return this.say("This file carries no settings.");
    this.dialog.close();
    send(tabOf(settings), `restore-${tabOf(settings)}`, settings);
  }

  async openIn(tool) {
    this.target.value = "";
    const [entry] = this.about;
    const answer = tool && (await this.act("open"));
    if (!answer) return;
    const { id } = await answer.json();
    this.dialog.close();
    showTab("edit");
    const shown = () => document.querySelector(".lcm-paper")?.dataset.tool;
    await until(shown); // Gradio draws a tab on its first visit
    document.querySelector(`#edit-tool input[value="${tool}"]`).click();
    await until(() => shown() === tool);
    (await registry.when("channel", "receive-edit"))({ id, settings: entry.settings.task ? null : entry.settings });
  }
}

export const galleryButton = (tools) => h("button", { type: "button", className: "lcm-tool", id: "gallery-open", title: "All pictures that were made", onclick: () => new Gallery(tools).open() }, "Gallery");

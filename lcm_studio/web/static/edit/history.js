// One history for strokes, pictures and results: each step knows its way back and forth.
const MOST = 40;

export class History {
  constructor(changed) {
    this.done = [];
    this.undone = [];
    this.changed = changed;
  }

  // step: {words, undo, redo}
  add(step) {
    this.done.push(step);
    this.undone = [];
    if (this.done.length > MOST) this.done.shift();
    this.changed();
  }

  // A step that came before all others.
  below(step) {
    this.done.unshift(step);
    if (this.done.length > MOST) this.done.shift();
    this.changed();
  }

  undo() {
    const step = this.done.pop();
    if (!step) return;
    step.undo();
    this.undone.push(step);
    this.changed();
  }

  redo() {
    const step = this.undone.pop();
    if (!step) return;
    step.redo();
    this.done.push(step);
    this.changed();
  }
}

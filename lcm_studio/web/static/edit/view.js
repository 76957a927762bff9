// The window onto the canvas: zoom at the pointer, pan with the space bar, the middle button or two fingers.
const CLOSEST = 16;

export class View {
  constructor(box, stack) {
    this.box = box;
    this.stack = stack;
    this.size = [1, 1];
    [this.x, this.y, this.scale] = [0, 0, 1];
    this.fitted = true;
    this.space = false;
    this.touches = new Map();
    box.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    new ResizeObserver(() => this.fitted && this.fit()).observe(box);
  }

  // What is shown has another size; it is fitted unless somebody has moved it.
  show(width, height) {
    if (this.size[0] === width && this.size[1] === height) return;
    this.size = [width, height];
    this.fit();
  }

  get fitScale() {
    const { clientWidth: width, clientHeight: height } = this.box;
    return Math.max(0.01, Math.min(width / this.size[0], height / this.size[1]));
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.x = (this.box.clientWidth - this.size[0] * this.scale) / 2;
    this.y = (this.box.clientHeight - this.size[1] * this.scale) / 2;
    this.apply();
  }

  apply() {
    this.stack.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stack.style.setProperty("--zoom", this.scale);
    this.box.dataset.zoom = this.scale.toFixed(3);
    this.box.dispatchEvent(new CustomEvent("lcm-view"));
  }

  // Zoom so that the point under (clientX, clientY) stays where it is.
  zoom(factor, clientX, clientY) {
    const place = this.box.getBoundingClientRect();
    const [px, py] = [clientX === undefined ? place.width / 2 : clientX - place.left - this.box.clientLeft, clientY === undefined ? place.height / 2 : clientY - place.top - this.box.clientTop];
    const scale = Math.min(Math.max(CLOSEST, this.fitScale), Math.max(this.fitScale / 2, this.scale * factor));
    this.x = px - ((px - this.x) * scale) / this.scale;
    this.y = py - ((py - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.apply();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.apply();
  }

  wheel(e) {
    if (!this.stack.childElementCount || this.box.dataset.empty) return;
    e.preventDefault();
    const lines = e.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp((-e.deltaY * lines) / 400), e.clientX, e.clientY);
  }

  // True where this pointer moves the view and does not paint.
  grabs(e) {
    if (e.pointerType === "touch") {
      this.touches.set(e.pointerId, [e.clientX, e.clientY]);
      return this.touches.size > 1;
    }
    return e.button === 1 || (e.button === 0 && this.space);
  }

  // A move of two fingers: pans by their middle, zooms by their distance. True where it was one.
  pinch(e) {
    if (!this.touches.has(e.pointerId) || this.touches.size < 2) return false;
    const [, [ox, oy]] = [...this.touches].find(([id]) => id !== e.pointerId);
    const [bx, by] = this.touches.get(e.pointerId);
    this.touches.set(e.pointerId, [e.clientX, e.clientY]);
    this.move((e.clientX - bx) / 2, (e.clientY - by) / 2);
    const before = Math.hypot(bx - ox, by - oy) || 1;
    this.zoom(Math.hypot(e.clientX - ox, e.clientY - oy) / before, (e.clientX + ox) / 2, (e.clientY + oy) / 2);
    return true;
  }

  lift(e) {
    this.touches.delete(e.pointerId);
  }
}

// The picture: the newest frame on a canvas, or nothing. It never stands still.

/** The timer that looks for stillness runs so often. */
const LOOK_MS = 100;

const LONGEST_STILL_MS = 1000;

/**
 * A frame sets the fuse anew when so much of it has burnt down: to do it for each frame took a fifth
 * of what drawing takes (Chromium without a GPU).
 */
const BURNT_SHARE = 0.15;

/**
 * Draws frames, and takes them away again.
 *
 * `onChange(visible)` is told when there begins or ceases to be a picture, `onTaken(frame)` of each
 * frame that needs nothing more: it is drawn, or it will not be.
 */
export class Picture {
  #canvas;
  #context;
  #onChange;
  #onTaken;
  #mirror = true;
  #frame = null;
  #fuseMs = -Infinity;
  #allowed = false;
  #visible = false;
  #stillMs = LONGEST_STILL_MS;
  #arrivedMs = 0;
  #decoding = false;
  #waiting = null;
  #turn = 0;
  #fuse = null;

  constructor(canvas, onChange, onTaken) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("bitmaprenderer");
    this.#onChange = onChange;
    this.#onTaken = onTaken;
    this.#setFuse();
    setInterval(() => this.#look(), LOOK_MS);
    // A page that comes back must not show, even for a moment, what it showed when it went.
    for (const name of ["visibilitychange", "freeze", "resume"]) {
      document.addEventListener(name, () => (document.hidden ? this.clear() : this.#look()));
    }
    addEventListener("pagehide", () => this.clear());
    addEventListener("pageshow", () => this.#look());
  }

  get visible() {
    return this.#visible;
  }

  /** When what is shown was captured, in Unix milliseconds of the server; null: nothing is. */
  get capturedMs() {
    return this.#visible ? this.#frame.handedMs - this.#frame.ageMs : null;
  }

  /** Sets whether left and right are to be swapped, as in a mirror. */
  set mirror(mirror) {
    this.#mirror = mirror;
    if (this.#visible) this.#swap();
  }

  /** Sets how long, in seconds, a frame may stand; never longer than one. */
  set stillS(seconds) {
    if (!(seconds > 0)) return;
    const stillMs = Math.min(seconds * 1000, LONGEST_STILL_MS);
    if (stillMs === this.#stillMs) return;
    this.#stillMs = stillMs;
    this.#setFuse();
  }

  /** Says whether anything may be shown; if not, what is shown goes at once. */
  allow(allowed) {
    this.#allowed = allowed;
    if (!allowed) this.clear();
  }

  /** Takes the picture away, and whatever is about to become one. */
  clear() {
    this.#turn += 1;
    this.#waiting = null;
    if (!this.#visible) return; // nothing is drawn, and taking it away would be painted all the same
    this.#context.transferFromImageBitmap(null);
    this.#fuse.cancel();
    this.#fuseMs = -Infinity;
    this.#visible = false;
    this.#onChange(false);
  }

  /** Takes the newest frame; one that waits to be decoded is forgotten. */
  show(frame) {
    if (!this.#allowed || document.hidden) {
      this.#onTaken(frame);
      return;
    }
    this.#waiting = { frame, arrivedMs: performance.now(), turn: this.#turn };
    if (!this.#decoding) this.#decode();
  }

  async #decode() {
    this.#decoding = true;
    try {
      while (this.#waiting !== null) {
        const { frame, arrivedMs, turn } = this.#waiting;
        this.#waiting = null;
        let bitmap;
        try {
          bitmap = await createImageBitmap(new Blob([frame.jpeg], { type: "image/jpeg" }));
        } catch {
          this.#onTaken(frame);
          continue; // no picture; if none follows, the timer sees it
        }
        const old = performance.now() - arrivedMs >= this.#stillMs;
        if (turn === this.#turn && !old) this.#draw(bitmap, frame, arrivedMs);
        bitmap.close();
        this.#onTaken(frame);
      }
    } finally {
      this.#decoding = false;
    }
  }

  #draw(bitmap, frame, arrivedMs) {
    // The canvas does not take the bitmap's size by itself, and would stretch it.
    if (this.#canvas.width !== bitmap.width) this.#canvas.width = bitmap.width;
    if (this.#canvas.height !== bitmap.height) this.#canvas.height = bitmap.height;
    this.#context.transferFromImageBitmap(bitmap);
    const { mirrored, handedMs, ageMs } = frame;
    this.#frame = { mirrored, handedMs, ageMs };
    this.#swap();
    this.#arrivedMs = arrivedMs;
    if (arrivedMs - this.#fuseMs > BURNT_SHARE * this.#stillMs) {
      this.#fuseMs = arrivedMs;
      this.#fuse.currentTime = performance.now() - arrivedMs;
      this.#fuse.play();
    }
    if (!this.#visible) {
      this.#visible = true;
      this.#onChange(true);
    }
    const detail = { sequence: frame.sequence, handedMs: frame.handedMs, drawnMs: Date.now() };
    dispatchEvent(new CustomEvent("m2fpframe", { detail }));
  }

  /** Swaps left and right, where the frame does not come that way: in software that is costly. */
  #swap() {
    const swapped = String(this.#mirror !== this.#frame.mirrored);
    if (this.#canvas.dataset.swapped !== swapped) this.#canvas.dataset.swapped = swapped;
  }

  #look() {
    const since = performance.now() - this.#arrivedMs;
    if (this.#visible && since >= this.#stillMs - LOOK_MS) this.clear();
  }

  /** Were this script to hang, the browser's compositor would still take the picture away. */
  #setFuse() {
    this.#fuse?.cancel();
    this.#fuse = this.#canvas.animate(
      { opacity: [1, 1, 0], offset: [0, 0.95, 1] },
      { duration: this.#stillMs, fill: "forwards" },
    );
    this.#fuse.cancel();
  }
}

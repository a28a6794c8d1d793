// The server's clock, as this page knows it; the two computers' clocks may differ.

const MOST_ANSWERS = 8;

/**
 * Each answer came between its question and now, so that it bounds how far the clocks are apart;
 * the truth lies where all bounds meet. Where they do not, a clock was set: what was known goes.
 */
export class ServerClock {
  #bounds = [];

  /** Takes an answer in: the server's time, and when it was asked and came (`performance.now`). */
  answered(serverMs, askedMs, cameMs) {
    this.#bounds.push([serverMs - cameMs, serverMs - askedMs]);
    if (this.#bounds.length > MOST_ANSWERS) this.#bounds.shift();
    const [low, high] = this.#meet();
    if (low > high) this.#bounds = this.#bounds.slice(-1);
  }

  /** Forgets everything. */
  reset() {
    this.#bounds = [];
  }

  /** Returns the server's Unix milliseconds at a time of `performance.now`; null: not known. */
  at(ms) {
    if (this.#bounds.length === 0) return null;
    const [low, high] = this.#meet();
    return ms + (low + high) / 2;
  }

  #meet() {
    return [
      Math.max(...this.#bounds.map(([low]) => low)),
      Math.min(...this.#bounds.map(([, high]) => high)),
    ];
  }
}

/** Looks taken together, one each `Picture` look: a second of them. */
const LOOKS = 10;

/** From here on it is said; less is how the picture is made (`live.max_delay_s`). */
const BEHIND_MS = 1000;
const IN_TIME_MS = 800;
const STEP_MS = 500;

/** Judges how far the picture is behind, over a second: one that stood for a moment is not. */
export class Behind {
  #ages = [];
  #said = 0;

  /** Takes the age of what is shown, in milliseconds; null: nothing is, or nobody knows. */
  look(ageMs) {
    if (ageMs === null) this.#ages = [];
    else this.#ages.push(ageMs);
    if (this.#ages.length > LOOKS) this.#ages.shift();
  }

  /** Returns how many seconds it is behind, in halves; 0 where it is not. */
  get seconds() {
    const full = this.#ages.length === LOOKS;
    const meanMs = full ? this.#ages.reduce((sum, one) => sum + one, 0) / LOOKS : 0;
    const late = meanMs >= (this.#said > 0 ? IN_TIME_MS : BEHIND_MS);
    // A number stays until it is wrong by more than a step: nobody reads one that flickers.
    if (!late) this.#said = 0;
    else if (this.#said === 0 || Math.abs(meanMs / 1000 - this.#said) > STEP_MS / 1000) {
      this.#said = Math.max(STEP_MS, Math.round(meanMs / STEP_MS) * STEP_MS) / 1000;
    }
    return this.#said;
  }
}

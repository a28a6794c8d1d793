// What somebody chose to have covered, until the server has confirmed it.

const FAILED_MS = 6000;
const RETRY_MS = 1000;
const ANSWER_MS = 3000;

const ORDER = ["parts", "person", "frame"];

export const rank = (level) => ORDER.indexOf(level);

/** A level by name; whatever is none counts as the one that hides most. */
export const known = (level) => (ORDER.includes(level) ? level : "frame");

export class PrivacyRequest {
  /**
   * What was chosen here and the server has not confirmed yet: `{level, silhouette, stronger}`,
   * `ordered` once it was answered, and `streamed` once the stream says so, too: what comes behind
   * that was composed as chosen. Null where nothing is open.
   */
  current = null;

  /** Whether the last attempt to tell the server has failed. */
  failing = false;

  #number = 0;
  #failedUntilMs = 0; // so long it is said that a change failed
  #onAnswer;
  #onChange;

  /** Calls `onAnswer(status)` with what the server answers, `onChange()` for all that shows. */
  constructor(onAnswer, onChange) {
    this.#onAnswer = onAnswer;
    this.#onChange = onChange;
  }

  /** Whether it is to be said that a change failed. */
  get failed() {
    return performance.now() < this.#failedUntilMs;
  }

  /** Asks for a level; `stronger` says whether more is hidden than before. */
  choose({ level, silhouette }, stronger) {
    this.current = { level, silhouette, stronger };
    this.#number += 1;
    this.failing = false;
    this.#failedUntilMs = 0;
    this.#onChange(); // what hides more hides at once
    this.#order(this.#number);
  }

  /** Sends it: one for more until it holds; one for less is given up when it fails. */
  async #order(number) {
    const answer = await this.#ask();
    if (!this.#isOpen(number)) return;
    if (answer !== null) this.current.ordered = true;
    this.failing = answer === null;
    if (answer !== null && typeof answer.state === "string") this.#onAnswer(answer);
    if (!this.#isOpen(number)) return;
    if (this.current.stronger) {
      setTimeout(() => this.#isOpen(number) && this.#order(number), RETRY_MS);
    } else if (answer === null) {
      this.current = null;
      this.#failedUntilMs = performance.now() + FAILED_MS;
      setTimeout(() => this.#onChange(), FAILED_MS + 1);
    } else {
      // What the server answered holds, whatever was requested, as soon as it had time to tell.
      setTimeout(() => number === this.#number && this.#settle(), RETRY_MS);
    }
    this.#onChange();
  }

  /** Returns the server's answer; null where it refuses, or is not reached. */
  async #ask() {
    try {
      const { level, silhouette } = this.current;
      const response = await fetch("/api/privacy", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ level, silhouette }),
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }

  #isOpen(number) {
    return number === this.#number && this.current !== null;
  }

  #settle() {
    this.current = null;
    this.#number += 1;
    this.failing = false;
    this.#onChange();
  }

  /** Takes in what the server says that holds, in the stream or in an answer. */
  take(status, streamed) {
    if (this.current === null) return;
    const level = known(status.level);
    const flat = status.silhouette === true || !this.current.silhouette;
    if (streamed) this.current.streamed = flat && rank(level) >= rank(this.current.level);
    const { stronger, ordered } = this.current;
    const isThere = stronger ? this.current.streamed : level === this.current.level;
    if (ordered && isThere) this.#settle();
  }
}

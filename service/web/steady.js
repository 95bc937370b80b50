/** Values that change gently, so that they can be read. Times are of any one clock, milliseconds. */

/** What is no word about a face: it may come, and go, without delay. */
const QUIET = new Set(["–", "…", "no face"]);
export const NOTHING = "–";

/** Where others change too fast for one of them to settle, what none of them says any more is not shown for longer. */
const RESTLESS_MS = 1_500;

/** A value that another takes over from once that one has been the same for a while, and this one was shown for a while. */
export class Steady {
  /** @type {{value: string, sinceMs: number} | null} */
  #next = null;
  /** Since when the value is another than what is shown. @type {number | null} */
  #differsMs = null;
  #shownMs = -Infinity;
  #settleMs;
  #dwellMs;

  /** @param {{settleMs: number, dwellMs?: number, first?: string}} about */
  constructor({ settleMs, dwellMs = 0, first = "" }) {
    this.shown = first;
    this.#settleMs = settleMs;
    this.#dwellMs = dwellMs;
  }

  /**
   * @param {string} value as it is now
   * @param {number} nowMs
   * @param {number} [dwellMs] how long what is shown must have been shown
   * @returns {string} what to show
   */
  see(value, nowMs, dwellMs = this.#dwellMs) {
    if (value === this.shown) {
      this.#next = this.#differsMs = null;
      return value;
    }
    if (value !== this.#next?.value) this.#next = { value, sinceMs: nowMs };
    this.#differsMs ??= nowMs;
    const settled = nowMs - this.#next.sinceMs >= this.#settleMs || nowMs - this.#differsMs >= RESTLESS_MS;
    if (settled && nowMs - this.#shownMs >= dwellMs) this.set(value, nowMs);
    return this.shown;
  }

  /**
   * Show a value at once.
   * @param {string} value
   * @param {number} nowMs
   */
  set(value, nowMs) {
    if (value !== this.shown) this.#shownMs = nowMs;
    this.shown = value;
    this.#next = this.#differsMs = null;
  }
}

/** One word about now: it changes gently, and goes when there is no picture young enough to say it of. */
export class CalmWord {
  #steady;
  #word = NOTHING;
  #takenMs = -Infinity;
  #dwellMs;
  #staleMs;

  /** @param {{settleMs?: number, dwellMs?: number, staleMs?: number}} [about] */
  constructor({ settleMs = 300, dwellMs = 1_200, staleMs = 1_000 } = {}) {
    this.#steady = new Steady({ settleMs, first: NOTHING });
    this.#dwellMs = dwellMs;
    this.#staleMs = staleMs;
  }

  /**
   * What a picture says that was taken at `takenMs`.
   * @param {string} word
   * @param {number} takenMs
   */
  see(word, takenMs) {
    this.#word = word;
    this.#takenMs = takenMs;
  }

  /** Nothing is known of now. */
  forget() {
    this.#takenMs = -Infinity;
  }

  /**
   * @param {number} nowMs
   * @returns {string} what may be shown at this moment
   */
  at(nowMs) {
    if (nowMs - this.#takenMs > this.#staleMs) {
      this.#steady.set(NOTHING, nowMs);
      return NOTHING;
    }
    const gently = !QUIET.has(this.#steady.shown) && !QUIET.has(this.#word);
    return this.#steady.see(this.#word, nowMs, gently ? this.#dwellMs : 0);
  }
}

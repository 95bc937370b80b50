/** How fast answers come, how old they are, and what share of the pictures gets none. Of the last two seconds. */

const SPAN_MS = 2_000;

/** What came of frames that newer ones took the place of, or that came too late. */
const DROPPED = new Set(["superseded", "expired", "overloaded", "rate_limited"]);

/** Values of the last two seconds. */
export class Recent {
  /** @type {{atMs: number, value: number}[]} */
  #kept = [];

  /**
   * @param {number} value
   * @param {number} nowMs
   */
  add(value, nowMs) {
    this.#kept.push({ atMs: nowMs, value });
    this.#forget(nowMs);
  }

  /**
   * @param {number} nowMs
   * @returns {number | null} null when there is none
   */
  median(nowMs) {
    this.#forget(nowMs);
    const sorted = this.#kept.map(({ value }) => value).sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  }

  /**
   * @param {number} nowMs
   * @returns {number | null} null when there is none
   */
  mean(nowMs) {
    this.#forget(nowMs);
    return this.#kept.length ? this.#kept.reduce((sum, { value }) => sum + value, 0) / this.#kept.length : null;
  }

  /**
   * Values a second (`sum`: what they add up to) over the time in which they came.
   * @param {number} nowMs
   * @param {boolean} [sum]
   * @returns {number | null} null until there are two
   */
  perSecond(nowMs, sum = false) {
    this.#forget(nowMs);
    const [first, ...others] = this.#kept;
    if (!others.length) return null;
    const amount = sum ? others.reduce((total, { value }) => total + value, 0) : others.length;
    return (amount * 1_000) / (others[others.length - 1].atMs - first.atMs || 1);
  }

  /** @param {number} nowMs */
  #forget(nowMs) {
    while (this.#kept.length && nowMs - this.#kept[0].atMs > SPAN_MS) this.#kept.shift();
  }
}

export class Tally {
  sessions = 0;
  /** Of these, how many went on with the one before. */
  resumed = 0;
  #serverMs = new Recent();
  #roundTripMs = new Recent();
  #ageMs = new Recent();
  #bytes = new Recent();
  /** 1 for a picture of the source that was dropped, here or by the server; 0 for another. */
  #dropped = new Recent();

  /**
   * @param {string} outcome
   * @param {any} message
   * @param {import("./timeconv.js").SentFrame} frame
   */
  settle(outcome, message, frame) {
    const nowMs = performance.now();
    this.#dropped.add(DROPPED.has(outcome) ? 1 : 0, nowMs);
    this.#roundTripMs.add(nowMs - frame.sentMs, nowMs);
    if (outcome !== "prediction") return;
    this.#serverMs.add(message.timing_ms.total, nowMs);
    this.#ageMs.add(nowMs - frame.data.takenMs, nowMs);
  }

  /** A picture was not sent, since older ones are not answered yet. */
  drop() {
    this.#dropped.add(1, performance.now());
  }

  /** @param {number} bytes */
  send(bytes) {
    this.#bytes.add(bytes, performance.now());
  }

  /** null where there was nothing; `dropped` 0..1. */
  figures(nowMs = performance.now()) {
    return {
      serverMs: this.#serverMs.median(nowMs),
      roundTripMs: this.#roundTripMs.median(nowMs),
      ageMs: this.#ageMs.median(nowMs),
      perSecond: this.#roundTripMs.perSecond(nowMs),
      dropped: this.#dropped.mean(nowMs),
      bytesPerSecond: this.#bytes.perSecond(nowMs, true),
    };
  }
}

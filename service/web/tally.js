/** What became of the frames, and how fast: sent = sum of outcomes + in flight + lost. */

const SPAN_MS = 2_000;

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
   * @returns {number | null} how many came per second; null until there are two
   */
  perSecond(nowMs) {
    this.#forget(nowMs);
    const first = this.#kept[0];
    const last = this.#kept[this.#kept.length - 1];
    return this.#kept.length > 1 ? ((this.#kept.length - 1) * 1000) / (last.atMs - first.atMs) : null;
  }

  /** @param {number} nowMs */
  #forget(nowMs) {
    while (this.#kept.length && nowMs - this.#kept[0].atMs > SPAN_MS) this.#kept.shift();
  }
}

export class Tally {
  sent = 0;
  /** Frames whose session ended before their outcome came. */
  lost = 0;
  sessions = 0;
  /** Of these, how many went on with the one before. */
  resumed = 0;
  /** @type {Record<string, number>} */
  outcomes = {};
  serverMs = new Recent();
  roundTripMs = new Recent();
  ageMs = new Recent();

  /**
   * @param {string} outcome
   * @param {any} message
   * @param {import("./timeconv.js").SentFrame} frame
   */
  settle(outcome, message, frame) {
    const nowMs = performance.now();
    this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1;
    this.roundTripMs.add(nowMs - frame.sentMs, nowMs);
    if (outcome !== "prediction") return;
    this.serverMs.add(message.timing_ms.total, nowMs);
    this.ageMs.add(nowMs - frame.data.takenMs, nowMs);
  }

  /** Figures of the last two seconds; null where there was nothing. */
  figures(nowMs = performance.now()) {
    return {
      serverMs: this.serverMs.median(nowMs),
      roundTripMs: this.roundTripMs.median(nowMs),
      ageMs: this.ageMs.median(nowMs),
      perSecond: this.roundTripMs.perSecond(nowMs),
    };
  }
}

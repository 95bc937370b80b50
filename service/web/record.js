/** What was read, to keep: the rows of `timeconv stream --csv`, which docs/files.md describes. */

/** As of `timeconv.js`. @typedef {{id: number, session: string, capturedUs: number, sentMs: number}} SentFrame */

/**
 * One frame; of each row the text up to the scores' end, how many scores there are (more labels may come to be known
 * later), and the text behind them.
 * @typedef {{id: number, session: string, sentMs: number, capturedUs: number, outcome: string,
 *   rows: {text: string, count: number, behind: string}[]}} Entry
 */

const BEFORE_LABELS = ["frame", "t_s", "outcome", "face_id", "state", "emotion", "probability", "uncertain"];
const BEHIND_LABELS = ["x", "y", "w", "h", "score"];
const SHARE_DIGITS = 4;
const PIXEL_DIGITS = 2;

/** What `timeconv stream` calls a frame whose connection broke before its outcome came. */
const UNANSWERED = "unanswered";

/** At most `mostRows` rows; those of the oldest frames go first, and `dropped` counts them. */
export class Record {
  #mostRows;
  /** In the order in which the frames were sent. @type {Entry[]} */
  #entries = [];
  #rows = 0;
  #dropped = 0;
  /** The last frame that was dropped, and its number. @type {{id: number, number: number} | null} */
  #last = null;
  /** The first frame there was. @type {SentFrame | null} */
  #first = null;
  /** All there were, in the order in which they came. @type {string[]} */
  #labels = [];
  /** Those of the session. @type {string[]} */
  #current = [];

  /** @param {{mostRows?: number}} [bounds] */
  constructor({ mostRows = 200_000 } = {}) {
    this.#mostRows = mostRows;
  }

  /** A session has begun, or goes on; others of its labels than before become more columns. @param {{labels: string[]}} session */
  setSession({ labels }) {
    this.#current = labels;
    this.#labels = [...new Set([...this.#labels, ...labels])];
  }

  /**
   * An outcome of a frame.
   * @param {string} outcome of the protocol, or `lost`
   * @param {any} message null where there is none
   * @param {SentFrame} frame
   */
  add(outcome, message, frame) {
    const { id, session, sentMs, capturedUs } = frame;
    if (!this.#first || sentMs < this.#first.sentMs) this.#first = { id, session, sentMs, capturedUs };
    const faces = facesOf(message);
    const rows = (faces.length ? faces : [null]).map((face) => this.#row(face));
    const entries = this.#entries;
    // Other outcomes may overtake predictions.
    let place = entries.length;
    while (place > 0 && entries[place - 1].sentMs > sentMs) place -= 1;
    const called = outcome === "lost" ? UNANSWERED : outcome;
    entries.splice(place, 0, { id, session, sentMs, capturedUs, outcome: called, rows });
    this.#rows += rows.length;
    while (this.#rows > this.#mostRows && entries.length > 1) this.#drop();
  }

  clear() {
    this.#entries = [];
    this.#rows = this.#dropped = 0;
    this.#first = this.#last = null;
    this.#labels = [...this.#current];
  }

  /** How many rows it has. */
  get rows() {
    return this.#rows;
  }

  /** How many it had and has no longer. */
  get dropped() {
    return this.#dropped;
  }

  /** A name for the file; it says where rows are missing, for a table has no place for that. */
  get fileName() {
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    return `timeconv-${time}${this.#dropped ? `-without-the-first-${this.#dropped}-rows` : ""}.csv`;
  }

  /**
   * Frames in the order in which they were sent; numbers and times go on from one session to the next. Where there are
   * several, a column behind the others counts them: a session that was gone on with is the same.
   */
  toCsv() {
    const sessions = [...new Set(this.#entries.map(({ session }) => session))];
    const places = new Map(sessions.map((session, i) => [session, sessions.length > 1 ? `,${i + 1}` : ""]));
    const columns = [...BEFORE_LABELS, ...this.#labels, ...BEHIND_LABELS, ...(sessions.length > 1 ? ["session"] : [])];
    const lines = [columns.map(quoted).join()];
    let last = this.#last;
    for (const entry of this.#entries) {
      last = { id: entry.id, number: this.#numberAfter(last, entry) };
      const time = (Math.round(entry.capturedUs - (this.#first?.capturedUs ?? 0)) / 1e6).toFixed(6);
      const start = `${last.number},${time},${quoted(entry.outcome)},`;
      for (const { text, count, behind } of entry.rows) {
        const absent = ",".repeat(this.#labels.length - count);
        lines.push(`${start}${text}${absent}${behind}${places.get(entry.session)}`);
      }
    }
    return new Blob([lines.join("\n"), "\n"], { type: "text/csv;charset=utf-8" });
  }

  /** @param {any} face null: none */
  #row(face) {
    const labels = this.#labels;
    const { id, state, emotion, uncertain, smoothed, box = [], score } = face ?? {};
    const probability = emotion === undefined ? undefined : smoothed?.[emotion];
    const flag = uncertain === undefined ? "" : uncertain ? "1" : "0";
    const scores = labels.map((label) => share(smoothed?.[label]));
    const pixels = [0, 1, 2, 3].map((i) => box[i]?.toFixed(PIXEL_DIGITS) ?? "");
    return {
      // Ends with a comma.
      text: [id ?? "", state ?? "", quoted(emotion ?? ""), share(probability), flag, ...scores, ""].join(),
      count: labels.length,
      behind: [...pixels, share(score)].join(),
    };
  }

  /** Forget the oldest frame. */
  #drop() {
    const entry = this.#entries.shift();
    if (!entry) return;
    this.#last = { id: entry.id, number: this.#numberAfter(this.#last, entry) };
    this.#rows -= entry.rows.length;
    this.#dropped += entry.rows.length;
  }

  /**
   * Frames of a stream are numbered as they were sent, those that are still on their way included; those of the next
   * stream go on from there.
   * @param {{id: number, number: number} | null} last
   * @param {Entry} entry
   */
  #numberAfter(last, { id }) {
    return last ? last.number + Math.max(1, id - last.id) : id - (this.#first?.id ?? id);
  }
}

/**
 * The faces that a message tells of; one that is filling its window comes without an id.
 * @param {any} message
 * @returns {any[]}
 */
function facesOf(message) {
  if (message?.faces) return message.faces;
  const box = message?.detail?.box;
  return box ? [{ state: "filling", box }] : [];
}

/** @param {number | undefined} value */
function share(value) {
  return value === undefined || value === null ? "" : value.toFixed(SHARE_DIGITS);
}

/** A cell by RFC 4180. @param {string} text */
function quoted(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

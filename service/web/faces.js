/** Whose face is read: the largest, or one that was picked, for as long as it is there. */

/** @typedef {import("./timeconv.js").FaceResult} Face */

/** How long a picked face may be away (covered, turned) before the largest is read in its place. */
const AWAY_MS = 1_500;
/** How long it is told that it has gone. */
const GONE_MS = 6_000;

export class Faces {
  /** The id that was picked; null: the largest is read. @type {number | null} */
  picked = null;
  /** Those of the newest picture, largest first. @type {Face[]} */
  all = [];
  /** A picked face that has gone, for a while. @type {number | null} */
  gone = null;
  #seenMs = 0;

  /**
   * @param {Face[]} faces of a picture, largest first
   * @param {number} nowMs
   */
  see(faces, nowMs) {
    this.all = faces;
    if (nowMs - this.#seenMs > AWAY_MS + GONE_MS) this.gone = null;
    if (this.picked === null) return;
    if (this.#find(this.picked)) this.#seenMs = nowMs;
    else if (nowMs - this.#seenMs > AWAY_MS) this.lose();
  }

  /** A picked face is not looked for any more: it has gone, or ids begin anew and the same one may be somebody else. */
  lose() {
    if (this.picked === null) return;
    this.gone = this.picked;
    this.picked = null;
  }

  /** The face that is read; null: there is none, or the picked one is away. @returns {Face | null} */
  get read() {
    return (this.picked === null ? this.all[0] : this.#find(this.picked)) ?? null;
  }

  /** Whether the picked face is not seen just now. */
  get away() {
    return this.picked !== null && !this.#find(this.picked);
  }

  /**
   * @param {number | null} id null: the largest, whichever that is
   * @param {number} nowMs
   */
  pick(id, nowMs) {
    this.picked = id;
    this.gone = null;
    this.#seenMs = nowMs;
  }

  /** The id after the one that is read, by number. @returns {number | null} */
  next() {
    const ids = this.all.map(({ id }) => id).sort((a, b) => a - b);
    return ids.find((id) => id > (this.read?.id ?? -1)) ?? ids[0] ?? null;
  }

  /** @param {number} id */
  #find(id) {
    return this.all.find((face) => face.id === id);
  }
}

/**
 * What is said of a face in one word.
 * @param {Face} face
 */
export function wordOf(face) {
  if (face.state === "filling") return "…";
  return face.uncertain ? "not sure" : face.emotion;
}

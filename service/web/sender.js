/** Frames out: what the source shows, whole, the chosen part of it, or the face alone; as many as are wanted and free. */

import { inPixels, isWhole } from "./region.js";
import { FaceSender, JpegEncoder, fittedSize } from "./timeconv.js";

/** @typedef {import("./region.js").Region} Region */

/**
 * What a frame's answer needs of it. `takenMs`: a time of `performance.now()`; `width`, `height`: of the picture that
 * boxes are told in; `region`: the part of the source's picture that it was.
 * @typedef {{takenMs: number, width: number, height: number, region: Region}} SeenFrame
 */

/** A frame this much before its time is taken: cameras are not exact. */
const EARLY_MS = 8;

export class Sender {
  #encoder = new JpegEncoder();
  /** @type {FaceSender | null} */
  #faces = null;
  /** @type {import("./timeconv.js").Stream | null} */
  #stream = null;
  #settings = { faceOnly: false, longest: 640, perSecond: 0 };
  #part = document.createElement("canvas");
  #busy = false;
  #dueMs = 0;
  #facesBefore = { whole: 0, faces: 0, looks: 0, lost: 0, bytes: 0 };

  /**
   * @param {import("./timeconv.js").Stream | null} stream
   * @param {{faceOnly: boolean, longest: number, perSecond: number}} settings
   */
  use(stream, settings) {
    const { faceOnly, longest, perSecond } = settings;
    const same = stream === this.#stream && faceOnly === this.#settings.faceOnly && longest === this.#settings.longest;
    this.#settings = { faceOnly, longest, perSecond };
    if (same) return;
    this.#facesBefore = this.faceCounts;
    this.#faces?.stop();
    this.#stream = stream;
    this.#encoder = new JpegEncoder({ longest });
    this.#faces = stream && faceOnly ? new FaceSender(stream, { longest }) : null;
  }

  /** What was sent by `FaceSender`s: whole frames, faces, looks, how often a face was lost. */
  get faceCounts() {
    const now = this.#faces?.counts;
    if (!now) return this.#facesBefore;
    const sums = Object.entries(this.#facesBefore).map(([name, count]) => [name, count + /** @type {any} */ (now)[name]]);
    return /** @type {typeof now} */ (Object.fromEntries(sums));
  }

  /** Whether the face alone is sent now. */
  get sendsFace() {
    return this.#faces?.sendsFace ?? false;
  }

  /**
   * Send what the video shows.
   * @param {HTMLVideoElement} video
   * @param {{takenMs: number, capturedUs: number, region: Region}} about
   * @returns {Promise<{sent: import("./timeconv.js").SentFrame | null, bytes: number} | null>} null: there is no stream, or
   *   it is not time yet; `sent` null: dropped, since older frames are not answered yet
   */
  async offer(video, { takenMs, capturedUs, region }) {
    const stream = this.#stream;
    if (!stream || stream.state.state !== "open" || !this.#isTime(takenMs)) return null;
    if (this.#busy || !stream.free) return { sent: null, bytes: 0 };
    this.#busy = true;
    try {
      const picture = this.#picture(video, region);
      // Filled in once it is drawn; the answer comes later.
      const data = { takenMs, width: 0, height: 0, region };
      return await (this.#faces ? this.#sendFaces(this.#faces, picture, capturedUs, data) : this.#sendWhole(stream, picture, capturedUs, data));
    } finally {
      this.#busy = false;
    }
  }

  /** @param {number} takenMs */
  #isTime(takenMs) {
    const { perSecond } = this.#settings;
    if (perSecond === 0) return true;
    if (takenMs < this.#dueMs - EARLY_MS) return false;
    const intervalMs = 1_000 / perSecond;
    this.#dueMs = Math.max(this.#dueMs + intervalMs, takenMs);
    return true;
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {Region} region
   */
  #picture(video, region) {
    if (isWhole(region) || !video.videoWidth) return video;
    const [x, y, w, h] = inPixels(region, video.videoWidth, video.videoHeight);
    if (this.#part.width !== w) this.#part.width = w;
    if (this.#part.height !== h) this.#part.height = h;
    this.#part.getContext("2d", { alpha: false })?.drawImage(video, x, y, w, h, 0, 0, w, h);
    return this.#part;
  }

  /**
   * @param {import("./timeconv.js").Stream} stream
   * @param {HTMLVideoElement | HTMLCanvasElement} picture
   * @param {number} capturedUs
   * @param {SeenFrame} data
   */
  async #sendWhole(stream, picture, capturedUs, data) {
    const encoded = await this.#encoder.encode(picture);
    if (!encoded) return null;
    const { jpeg, width, height } = encoded;
    const sent = stream.trySend(jpeg, { capturedUs, data: Object.assign(data, { width, height }) });
    return { sent, bytes: sent ? jpeg.size : 0 };
  }

  /**
   * @param {FaceSender} faces
   * @param {HTMLVideoElement | HTMLCanvasElement} picture
   * @param {number} capturedUs
   * @param {SeenFrame} data
   */
  async #sendFaces(faces, picture, capturedUs, data) {
    const [width, height] = picture instanceof HTMLVideoElement ? [picture.videoWidth, picture.videoHeight] : [picture.width, picture.height];
    Object.assign(data, fittedSize(width, height, this.#settings.longest));
    const before = faces.counts.bytes;
    const sent = await faces.trySend(picture, { capturedUs, data });
    return { sent, bytes: faces.counts.bytes - before };
  }
}

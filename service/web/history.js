/** What was read: the timeline of the last half minute, and the rows that can be saved. */

import { element, saveAs, throttled, write } from "./elements.js";
import { Record } from "./record.js";
import { Timeline } from "./timeline.js";

const ROWS_MS = 400;
const DESCRIBED_MS = 5_000;

export class History {
  #canvas = element("timeline", HTMLCanvasElement);
  #rows = element("rows", HTMLElement);
  #buttons = ["save-csv", "save-png", "clear"].map((id) => element(id, HTMLButtonElement));
  #timeline = new Timeline(this.#canvas);
  #record = new Record();

  constructor() {
    const [csv, png, clear] = this.#buttons;
    csv.addEventListener("click", () => saveAs(this.#record.toCsv(), this.#record.fileName));
    png.addEventListener("click", async () => saveAs(await this.#timeline.toPng(), this.#record.fileName.replace(/csv$/, "png")));
    clear.addEventListener("click", () => {
      this.#record.clear();
      this.#timeline.clear();
      this.#show();
    });
    // The picture's text is there to be read, not told by itself.
    setInterval(() => this.#describe(), DESCRIBED_MS);
  }

  get rows() {
    return this.#record.rows;
  }

  /** What the last seconds showed, in words. */
  get description() {
    return this.#timeline.description();
  }

  /** Whether time goes on. @param {boolean} active */
  run(active) {
    if (active) this.#timeline.start();
    else this.#timeline.stop();
  }

  /** @param {import("./timeconv.js").SessionStarted} session */
  setSession(session) {
    this.#record.setSession(session);
    this.#timeline.setLabels(session.labels);
  }

  /**
   * An outcome of a frame, or `lost`.
   * @param {string} outcome
   * @param {any} message
   * @param {import("./timeconv.js").SentFrame} frame
   */
  keep(outcome, message, frame) {
    this.#record.add(outcome, message, frame);
    this.#show();
  }

  /**
   * @param {import("./timeconv.js").FaceResult[]} faces of a picture
   * @param {number} takenMs
   */
  read(faces, takenMs) {
    for (const face of faces) {
      if (face.state === "ready") this.#timeline.add({ ...face, faceId: face.id, atMs: takenMs });
    }
  }

  /** There is no reading of that time. @param {number} atMs */
  breakAt(atMs) {
    this.#timeline.breakAt(atMs);
  }

  /** Whose lines are drawn. @param {number | null} id null: the largest face's */
  follow(id) {
    this.#timeline.follow(id);
  }

  #show = throttled(ROWS_MS, () => {
    const { rows, dropped } = this.#record;
    const words = `${rows} ${rows === 1 ? "row" : "rows"}`;
    write(this.#rows, dropped ? `${words}; ${dropped} older ones are dropped` : words);
    for (const button of this.#buttons) button.disabled = rows === 0;
  });

  #describe() {
    this.#canvas.setAttribute("aria-label", this.description || "Timeline: nothing yet");
  }
}

/** "One word": nothing but one calm word, for who wants to know during a talk what a face shows. */

import { element, write } from "./elements.js";
import { CalmWord, NOTHING } from "./steady.js";

const FADE_MS = 250;
/** The small picture is to know where the camera looks. */
const PICTURE_MS = 100;

export class WordMode {
  calm = new CalmWord();
  #root = element("word-mode", HTMLElement);
  #page = element("page", HTMLElement);
  #word = element("big-word", HTMLElement);
  #note = element("word-note", HTMLElement);
  #start = element("word-start", HTMLButtonElement);
  #leave = element("word-leave", HTMLButtonElement);
  #full = element("word-full", HTMLButtonElement);
  #pictureToggle = element("word-picture-toggle", HTMLButtonElement);
  #picture = element("word-picture", HTMLCanvasElement);
  #drawnMs = 0;
  /** What had the keyboard before. @type {Element | null} */
  #from = null;
  /** @type {WakeLockSentinel | null} */
  #lock = null;

  /** @param {() => void} start the source */
  constructor(start) {
    this.#start.addEventListener("click", start);
    this.#leave.addEventListener("click", () => this.close());
    this.#full.hidden = !document.fullscreenEnabled;
    this.#full.addEventListener("click", () => this.#fullScreen());
    this.#pictureToggle.addEventListener("click", () => this.#showPicture(this.#picture.hidden));
    // Of the whole document: behind the last button the focus is nowhere.
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isOpen) return;
      event.preventDefault();
      this.close();
    });
    // Leaving full screen, for which browsers take Escape themselves, leaves this too.
    document.addEventListener("fullscreenchange", () => document.fullscreenElement ?? this.close());
    document.addEventListener("visibilitychange", () => this.#stayAwake());
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  open() {
    if (this.isOpen) return;
    this.#from = document.activeElement;
    this.#root.hidden = false;
    this.#page.inert = true;
    document.documentElement.classList.add("one-word");
    this.#leave.focus();
    this.#stayAwake();
    this.update("");
  }

  close() {
    if (!this.isOpen) return;
    this.#root.hidden = true;
    this.#page.inert = false;
    document.documentElement.classList.remove("one-word");
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    if (this.#from instanceof HTMLElement) this.#from.focus();
    this.#stayAwake();
  }

  /**
   * Write the word of this moment.
   * @param {string} note what to do, where there is something to be done
   * @param {number} [nowMs]
   */
  update(note, nowMs = performance.now()) {
    const word = this.calm.at(nowMs);
    if (!this.isOpen) return;
    write(this.#note, note);
    if (this.#word.textContent === word) return;
    write(this.#word, word);
    this.#word.classList.toggle("quiet", [NOTHING, "…", "no face", "not sure"].includes(word));
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.#word.animate({ opacity: [0, 1] }, FADE_MS);
  }

  /** What starts the source is written so; "": it runs. @param {string} start */
  offerStart(start) {
    // Who has the keyboard there goes on from "Leave".
    if (!start && document.activeElement === this.#start) this.#leave.focus();
    this.#start.hidden = !start;
    if (start) write(this.#start, start);
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {boolean} mirrored
   */
  draw(video, mirrored) {
    if (!this.isOpen || this.#picture.hidden || performance.now() - this.#drawnMs < PICTURE_MS) return;
    this.#drawnMs = performance.now();
    const height = Math.round((this.#picture.width * video.videoHeight) / video.videoWidth);
    if (this.#picture.height !== height) this.#picture.height = height;
    this.#picture.classList.toggle("mirrored", mirrored);
    this.#picture.getContext("2d")?.drawImage(video, 0, 0, this.#picture.width, height);
  }

  /** @param {boolean} shown */
  #showPicture(shown) {
    this.#picture.hidden = !shown;
    this.#pictureToggle.setAttribute("aria-pressed", String(shown));
  }

  #fullScreen() {
    if (document.fullscreenElement) return;
    // Where it is refused the word has the whole page anyway.
    this.#root.requestFullscreen().catch(() => {});
  }

  /** The screen must not go dark while nothing is touched. Browsers let the lock go when the page is hidden. */
  async #stayAwake() {
    if (!this.isOpen) {
      this.#lock?.release().catch(() => {});
      this.#lock = null;
      return;
    }
    if (document.hidden || !("wakeLock" in navigator)) return;
    // Refused where the battery is low; the screen then goes dark as it always does.
    const lock = await navigator.wakeLock.request("screen").catch(() => null);
    const had = this.#lock;
    this.#lock = this.isOpen ? lock : null;
    for (const other of [had, lock]) if (other !== this.#lock) other?.release().catch(() => {});
  }
}

/** The source and its controls: which is chosen, opening it, closing it, and how it is. */

import { element, write } from "./elements.js";
import { SourceError, available, cameras, openCamera, openFile, openScreen } from "./sources.js";

/** @typedef {import("./sources.js").Kind} Kind */
/** @typedef {import("./sources.js").Source} Source */

/** A live source from which nothing new has come for so long stands still. */
const STANDING_MS = 1_000;

export class SourcePanel {
  /** @type {Source | null} */
  source = null;
  #controls = element("controls", HTMLFormElement);
  #toggle = element("toggle", HTMLButtonElement);
  #choose = element("choose", HTMLButtonElement);
  #fileField = element("file", HTMLInputElement);
  #camera = element("camera", HTMLSelectElement);
  #cameraField = element("camera-field", HTMLElement);
  #note = element("source-note", HTMLElement);
  /** What Start shows; what is shown goes on until then. @type {Kind} */
  #kind = "camera";
  /** @type {File | null} */
  #file = null;
  /** Aborted where the source is not wanted any more, be it open by then or not. */
  #wanted = new AbortController();
  #asking = false;
  #problem = "";
  /** When there was a new picture last. */
  #pictureMs = 0;
  #video;
  #stage;
  #changed;
  #widthPx;

  /**
   * @param {import("./stage.js").Stage} stage
   * @param {() => number} widthPx wanted of a camera
   * @param {() => void} changed the source, or how it is
   */
  constructor(stage, widthPx, changed) {
    this.#stage = stage;
    this.#video = stage.video;
    this.#widthPx = widthPx;
    this.#changed = changed;
    this.#listen();
    this.#offer();
  }

  /** Whether pictures come. */
  get isActive() {
    return this.source !== null && (this.source.kind !== "file" || (!this.#video.paused && !this.#video.ended));
  }

  /** Whether Start would ask for a file first. */
  get wantsFile() {
    return this.#kind === "file" && !this.#file;
  }

  /** @returns {import("./status.js").SourceState} */
  get state() {
    return { kind: this.source?.kind ?? this.#kind, chosen: this.#kind, state: this.#stateName(), problem: this.#problem, hasFile: this.#file !== null };
  }

  /** Whether Stop is what there is to press: nothing else is chosen than what is shown or asked for. */
  get #runs() {
    return this.#asking || (this.isActive && this.source?.kind === this.#kind);
  }

  /** What the button says that `toggle` belongs to, while that starts something; else "". */
  get offersStart() {
    if (this.#runs) return "";
    return this.wantsFile ? "Choose file…" : "Start";
  }

  #stateName() {
    if (!this.source) return this.#asking ? "asking" : "none";
    if (this.isActive) return performance.now() - this.#pictureMs > STANDING_MS ? "standing" : "playing";
    return this.#video.ended ? "ended" : "paused";
  }

  /** There is a new picture. */
  shown() {
    this.#pictureMs = performance.now();
  }

  toggle() {
    if (this.#runs) this.#stop();
    else this.start();
  }

  start() {
    if (this.#kind === "file" && this.source?.kind === "file") return this.#play();
    if (this.wantsFile) return this.#fileField.click();
    return this.#open();
  }

  #stop() {
    if (this.source?.kind === "file") this.#video.pause();
    else this.#close();
  }

  async #open() {
    this.#close();
    const { signal } = this.#wanted;
    this.#asking = true;
    this.#tell();
    try {
      this.source = await this.#ask(signal);
    } catch (error) {
      if (!signal.aborted) this.fail(error);
      return;
    }
    this.#asking = false;
    this.shown();
    this.#stage.showVideo(true, this.source.mirrored);
    if (this.source.kind === "camera") this.#listCameras(this.source.device);
    if (this.source.kind === "file") await this.#play();
    this.#tell();
  }

  /** @param {AbortSignal} signal @returns {Promise<Source>} */
  #ask(signal) {
    const onLost = (/** @type {SourceError} */ problem) => this.fail(problem);
    if (this.#kind === "screen") return openScreen(this.#video, onLost, signal);
    if (this.#kind === "file" && this.#file) return openFile(this.#video, this.#file, signal);
    return openCamera(this.#video, { device: this.#camera.value, widthPx: this.#widthPx() }, onLost, signal);
  }

  async #play() {
    try {
      await this.#video.play();
    } catch {
      // The browser wants a press on its own play button first; the button is there.
    }
  }

  #close() {
    this.#wanted.abort();
    this.#wanted = new AbortController();
    this.#asking = false;
    this.#problem = "";
    this.source = null;
    this.#stage.showVideo(false, false);
    this.#tell();
  }

  /** @param {unknown} error */
  fail(error) {
    this.#close();
    this.#problem = error instanceof SourceError ? error.message : `The source failed: ${error}`;
    this.#tell();
  }

  /** @param {File | undefined} file */
  openFile(file) {
    if (!file) return;
    this.#kind = "file";
    this.#file = file;
    this.#open();
  }

  /** Browsers name the cameras once one of them was allowed. @param {string} inUse */
  async #listCameras(inUse) {
    const found = await cameras();
    this.#camera.replaceChildren(...found.map(({ value, name }) => new Option(name, value)));
    this.#camera.value = inUse;
    this.#show();
  }

  #tell() {
    this.#show();
    this.#changed();
  }

  #show() {
    for (const radio of this.#radios()) radio.checked = radio.value === this.#kind;
    this.#choose.hidden = this.#kind !== "file";
    write(this.#choose, this.#file ? this.#file.name : "Choose file…");
    this.#cameraField.hidden = this.#kind !== "camera" || this.#camera.options.length < 2;
    write(this.#toggle, this.#runs ? "Stop" : "Start");
  }

  /** What this browser has not, here, is not offered. */
  #offer() {
    const has = available();
    for (const radio of this.#radios()) {
      if (radio.parentElement) radio.parentElement.hidden = !has[/** @type {Kind} */ (radio.value)];
    }
    if (has.camera) return;
    this.#kind = "file";
    write(this.#note, "Browsers give camera and screen only to pages from https or localhost. A video file works here.");
  }

  #radios() {
    return /** @type {HTMLInputElement[]} */ ([...this.#controls.querySelectorAll("input[type=radio]")]);
  }

  #listen() {
    this.#controls.addEventListener("submit", (event) => {
      event.preventDefault();
      this.toggle();
    });
    this.#controls.addEventListener("change", ({ target }) => {
      if (target === this.#camera) this.#open();
      if (!(target instanceof HTMLInputElement) || target.type !== "radio") return;
      this.#kind = /** @type {Kind} */ (target.value);
      // With arrow keys one comes by sources that one does not want: what is read goes on.
      if (this.isActive) this.#tell();
      else this.#close();
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#listCameras(this.source?.device ?? this.#camera.value));
    this.#choose.addEventListener("click", () => this.#fileField.click());
    this.#fileField.addEventListener("change", () => {
      this.openFile(this.#fileField.files?.[0]);
      // The same file, chosen again, is a change too.
      this.#fileField.value = "";
    });
    for (const event of ["play", "pause", "ended"]) this.#video.addEventListener(event, () => this.source && this.#tell());
    addEventListener("dragover", (event) => {
      event.preventDefault();
      this.#stage.root.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.#stage.root.classList.remove("dropping");
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.#stage.root.classList.remove("dropping");
      this.openFile(event.dataTransfer?.files[0]);
    });
  }
}

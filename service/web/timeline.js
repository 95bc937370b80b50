/** The looks of a face over the last seconds, as lines that scroll. */

import { COLOURS } from "./palette.js";
import { Plot, blocksOf, luminance, ordered, paint, runsOf } from "./plot.js";

/** @typedef {import("./plot.js").Reading} Reading */

/** What lies before the left edge and still has a line into the picture. */
const SLACK_MS = 2_000;
/** Eight faces at 60 frames/s for half a minute, and a little. */
const MOST_READINGS = 16_384;
/** It scrolls by whole pixels of the screen; where these are small, not by each. */
const LEAST_STEP_MS = 30;
const CALM_MS = 1_000;
const NOTE = "The words name the look of a face, not what the person feels.";
const SAVED = { width: 960, height: 440, scale: 2, head: 58, foot: 44 };

/**
 * Times are those of `performance.now()`. The canvas needs a size by CSS. The oldest readings are forgotten: what is older
 * than `spanMs` and a little, and what is over 16,384 readings.
 */
export class Timeline {
  #canvas;
  #spanMs;
  #now;
  #labels = Object.keys(COLOURS);
  /** Of the labels at the lines' ends. */
  #order = [...this.#labels];
  /** In order of time. @type {Reading[]} */
  #readings = [];
  /** @type {number | null} */
  #faceId = null;
  /** What lies at the right edge while it does not scroll. */
  #stoppedMs;
  #isRunning = false;
  #isVisible = false;
  #isStale = true;
  #isAwaited = false;
  #drawnMs = -Infinity;
  /** @type {Plot | null} */
  #plot = null;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{spanMs?: number, now?: () => number}} [settings]
   */
  constructor(canvas, { spanMs = 30_000, now = () => performance.now() } = {}) {
    this.#canvas = canvas;
    this.#spanMs = spanMs;
    this.#now = now;
    this.#stoppedMs = now();
    new ResizeObserver(() => this.#changed()).observe(canvas);
    new IntersectionObserver((entries) => {
      this.#isVisible = entries[entries.length - 1].isIntersecting;
      this.#changed();
    }).observe(canvas);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.#changed());
    }
  }

  /** Other labels than before clear it. @param {string[]} labels */
  setLabels(labels) {
    if (labels.join() === this.#labels.join()) return;
    this.#labels = [...labels];
    this.#order = [...labels];
    this.#plot = null;
    this.clear();
  }

  /**
   * A reading. Faces of one frame have the same time, and come largest first.
   * @param {{atMs: number, faceId: number, smoothed: Record<string, number>, emotion: string, uncertain: boolean}} reading
   */
  add({ atMs, faceId, smoothed, emotion, uncertain }) {
    const scores = this.#labels.map((label) => smoothed[label] ?? 0);
    this.#insert({ atMs, faceId, leads: true, scores, emotion, uncertain });
  }

  /** No reading at that time: nothing is drawn across. @param {number} atMs */
  breakAt(atMs) {
    const [first, last] = this.#readings.slice(-2);
    // While nothing is read breaks come by the frame; the first and the last tell all.
    if (last && !first.scores && !last.scores && last.atMs <= atMs) last.atMs = atMs;
    else this.#insert({ atMs, faceId: null, leads: false, scores: null, emotion: null, uncertain: false });
  }

  /** Whose lines are shown. @param {number | null} faceId null: the largest face of each frame */
  follow(faceId) {
    this.#faceId = faceId;
    this.#changed();
  }

  clear() {
    this.#readings = [];
    this.#changed();
  }

  /** Scroll: by the pixel, or once a second where people want less motion. */
  start() {
    this.#isRunning = true;
    this.#changed();
  }

  /** Stand still, at this moment. */
  stop() {
    if (this.#isRunning) this.#stoppedMs = this.#now();
    this.#isRunning = false;
    this.#changed();
  }

  /** Draw at once, seen or not. */
  draw() {
    const context = this.#canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!context || !width || !height) return;
    const ratio = devicePixelRatio;
    const [deviceWidth, deviceHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== deviceWidth) this.#canvas.width = deviceWidth;
    if (this.#canvas.height !== deviceHeight) this.#canvas.height = deviceHeight;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);

    const { color, fontFamily: font } = getComputedStyle(this.#canvas);
    context.fillStyle = color;
    const ink = String(context.fillStyle);
    const plot = this.#plotOf(context, width, height, font);
    // By whole pixels of the screen: lines would flicker in between.
    const stepMs = plot.msPerPixel / ratio;
    this.#drawnMs = this.#endMs;
    this.#isStale = false;
    paint(context, {
      ...this.#drawing(Math.floor(this.#drawnMs / stepMs) * stepMs),
      plot,
      endWord: this.#isRunning ? "now" : "end",
      ink,
      ground: luminance(ink) > 0.18 ? "dark" : "light",
      font,
    });
  }

  /** A picture to keep, at twice the size, on white, with what is needed to read it. @returns {Promise<Blob>} PNG */
  async toPng() {
    const { width, height, scale, head, foot } = SAVED;
    const canvas = Object.assign(document.createElement("canvas"), { width: width * scale, height: height * scale });
    const context = canvas.getContext("2d");
    if (!context) throw new Error("The browser has no canvas to draw on");
    const font = getComputedStyle(this.#canvas).fontFamily;
    const endMs = this.#endMs;
    const [from, to] = [endMs - this.#spanMs, endMs].map((atMs) => new Date(performance.timeOrigin + atMs));
    context.scale(scale, scale);
    const plot = new Plot({ width, height, spanMs: this.#spanMs, labelWidth: this.#labelWidth(context, font), head, foot });
    // Copies, since those on the page keep where their dashes are.
    const readings = this.#readings.map((reading) => ({ ...reading, arc: undefined }));
    const runs = runsOf(readings, this.#faceId);
    paint(context, {
      ...this.#drawing(endMs),
      ...{ plot, runs, endWord: to.toLocaleTimeString(), ink: "#1b1f24", ground: "light", font },
    });
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillStyle = "#1b1f24";
    context.font = `600 16px ${font}`;
    context.fillText("Look of the face: how probable each one is", 16, 26);
    context.font = `12px ${font}`;
    context.fillText(`${from.toLocaleDateString()}, ${from.toLocaleTimeString()} to ${to.toLocaleTimeString()}`, 16, 45);
    context.fillText("Strip: the most probable one. Stripes and pale lines: not sure. Empty: no reading. Upright line: another face.", 16, height - 25);
    context.fillText(NOTE, 16, height - 9);
    // Under what is drawn, since words on stripes are cut out of them.
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be made"))), "image/png");
    });
  }

  /** What is shown, in words. */
  description() {
    return described(runsOf(this.#readings, this.#faceId), this.#labels, this.#endMs, this.#spanMs);
  }

  get #endMs() {
    if (this.#isRunning) return this.#now();
    const last = this.#readings[this.#readings.length - 1];
    return Math.max(this.#stoppedMs, last?.atMs ?? -Infinity);
  }

  /** @param {Reading} reading */
  #insert(reading) {
    const readings = this.#readings;
    // Other outcomes may overtake predictions.
    let place = readings.length;
    while (place > 0 && readings[place - 1].atMs > reading.atMs) place -= 1;
    const before = readings[place - 1];
    if (before?.scores && before.atMs === reading.atMs) reading.leads = false;
    readings.splice(place, 0, reading);
    const oldestMs = readings[readings.length - 1].atMs - this.#spanMs - SLACK_MS;
    let count = Math.max(0, readings.length - MOST_READINGS);
    while (readings[count].atMs < oldestMs) count += 1;
    if (count) readings.splice(0, count);
    this.#changed();
  }

  /** @param {number} endMs */
  #drawing(endMs) {
    const runs = runsOf(this.#readings, this.#faceId);
    const run = runs[runs.length - 1];
    const scores = run?.[run.length - 1].scores;
    if (scores) {
      this.#order = ordered(this.#order, Object.fromEntries(this.#labels.map((label, i) => [label, scores[i]])));
    }
    return { labels: this.#labels, order: this.#order, runs, endMs };
  }

  /**
   * The same one until something of it changes.
   * @param {CanvasRenderingContext2D} context
   * @param {number} width
   * @param {number} height
   * @param {string} font
   */
  #plotOf(context, width, height, font) {
    const plot = new Plot({ width, height, spanMs: this.#spanMs, labelWidth: this.#labelWidth(context, font) });
    const isSame = this.#plot && plot.right === this.#plot.right && plot.bottom === this.#plot.bottom;
    return isSame && this.#plot ? this.#plot : (this.#plot = plot);
  }

  /** @param {CanvasRenderingContext2D} context @param {string} font */
  #labelWidth(context, font) {
    context.font = `12px ${font}`;
    return Math.ceil(Math.max(0, ...this.#labels.map((label) => context.measureText(label).width)));
  }

  #changed() {
    this.#isStale = true;
    this.#await();
  }

  /** Have one frame come, if there is somebody to see it. */
  #await() {
    if (this.#isAwaited || !this.#isVisible) return;
    this.#isAwaited = true;
    const come = () => {
      this.#isAwaited = false;
      const stepMs = Math.max(LEAST_STEP_MS, (this.#plot?.msPerPixel ?? 0) / devicePixelRatio);
      if (this.#isRunning ? this.#endMs - this.#drawnMs >= stepMs : this.#isStale) this.draw();
      if (this.#isRunning) this.#await();
    };
    if (this.#isRunning && this.#calm.matches) setTimeout(() => requestAnimationFrame(come), CALM_MS);
    else requestAnimationFrame(come);
  }
}

/**
 * Runs in words: shares of the time since the first reading, and what the last one says.
 * @param {Reading[][]} runs
 * @param {string[]} labels
 * @param {number} endMs
 * @param {number} spanMs
 * @returns {string}
 */
export function described(runs, labels, endMs, spanMs) {
  const fromMs = Math.max(endMs - spanMs, runs[0]?.[0].atMs ?? endMs);
  const lastingMs = Math.max(1, endMs - fromMs);
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const block of runs.flatMap(blocksOf)) {
    const ms = Math.min(block.toMs, endMs) - Math.max(block.fromMs, fromMs);
    const word = block.word ?? "not sure";
    if (ms > 0) times.set(word, (times.get(word) ?? 0) + ms);
  }
  if (!times.size) return `No reading in the last ${inSeconds(spanMs)}.`;
  const read = [...times.values()].reduce((sum, ms) => sum + ms, 0);
  const parts = [...times].sort((a, b) => b[1] - a[1]);
  if (lastingMs - read >= 0.01 * lastingMs) parts.push(["no reading", lastingMs - read]);
  const told = parts.map(([word, ms]) => `${word} ${Math.round((100 * ms) / lastingMs)} %`).join(", ");
  return `The last ${inSeconds(lastingMs)}: ${told} of the time. ${latest(runs, labels)}`;
}

/** @param {Reading[][]} runs @param {string[]} labels */
function latest(runs, labels) {
  const run = runs[runs.length - 1];
  const { emotion, scores, uncertain } = run[run.length - 1];
  if (uncertain || emotion === null) return "Last: not sure.";
  return `Last: ${emotion}, ${Math.round(100 * (scores?.[labels.indexOf(emotion)] ?? 0))} %.`;
}

/** @param {number} ms */
function inSeconds(ms) {
  const seconds = Math.round(ms / 1_000);
  return seconds === 1 ? "second" : `${seconds} seconds`;
}

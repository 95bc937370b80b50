/** How readings over time become lines, a strip and labels: geometry without state, and the drawing of it. */

import { colourOf, dashOf } from "./palette.js";

/**
 * What was read of a face at a moment of `performance.now()`; `scores` (0..1) are in the order of the labels. `leads`: it
 * is the first face of its frame. Without scores: nothing was read, and no line goes on beyond it.
 * `arc` belongs to who draws: see `measure`.
 * @typedef {{atMs: number, faceId: number | null, leads: boolean, scores: number[] | null, emotion: string | null,
 *   uncertain: boolean, arc?: {plot: Plot, before: Reading | null, lengths: number[]}}} Reading
 */

/** @typedef {{fromMs: number, toMs: number, word: string | null}} Block what was said meanwhile; null: not sure */

/** Readings further apart do not belong to one motion; the service empties its window then (`gap_reset_ms`). */
export const GAP_MS = 1_000;
/** How long the last reading before a gap counts, at most; and one that is alone. */
const TAIL_MS = 100;
/** Labels change places only where one is so much more probable: else those of seven near 0 would dance. */
const LEAST_LEAD = 0.05;

const AXIS = 17;
const STRIP = 18;
const GAP = 6;
const LABEL_LINE = 14;
const SAMPLE = 22;
const LEAST_TICK = 64;
const STRIPE = 4;
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600];

/** Where things lie; lengths are CSS pixels, shares 0..1. */
export class Plot {
  /**
   * @param {{width: number, height: number, spanMs: number, labelWidth: number, head?: number, foot?: number}} size
   *   `labelWidth`: of the widest label's text; `head`, `foot`: left free
   */
  constructor({ width, height, spanMs, labelWidth, head = 0, foot = 0 }) {
    this.width = width;
    this.spanMs = spanMs;
    this.left = 46;
    this.right = Math.max(this.left + 1, width - labelWidth - SAMPLE - 16);
    this.top = head + 8;
    this.axis = height - foot - AXIS;
    this.strip = this.axis - GAP - STRIP;
    this.bottom = Math.max(this.top + 1, this.strip - GAP);
  }

  get msPerPixel() {
    return this.spanMs / (this.right - this.left);
  }

  /** @param {number} atMs @param {number} endMs what lies at the right edge */
  x(atMs, endMs) {
    return this.right - (endMs - atMs) / this.msPerPixel;
  }

  /** @param {number} share */
  y(share) {
    return this.bottom - share * (this.bottom - this.top);
  }
}

/**
 * The readings of a face in parts within which they follow each other without a gap.
 * @param {Reading[]} readings in order of time
 * @param {number | null} faceId null: whichever face led; where another takes over a new part begins
 * @returns {Reading[][]}
 */
export function runsOf(readings, faceId) {
  /** @type {Reading[][]} */
  const runs = [];
  /** @type {Reading | null} */
  let last = null;
  for (const reading of readings) {
    if (!reading.scores) last = null;
    else if (faceId === null ? reading.leads : reading.faceId === faceId) {
      const goesOn = last && last.faceId === reading.faceId && reading.atMs - last.atMs <= GAP_MS;
      if (goesOn) runs[runs.length - 1].push(reading);
      else runs.push([reading]);
      last = reading;
    }
  }
  return runs;
}

/**
 * A run in pieces that are drawn alike; each begins where the one before ends. What leads to or from a reading that is
 * not sure is not sure.
 * @param {Reading[]} run
 * @returns {{uncertain: boolean, readings: Reading[]}[]}
 */
export function piecesOf(run) {
  if (run.length === 1) return [{ uncertain: run[0].uncertain, readings: run }];
  /** @type {{uncertain: boolean, readings: Reading[]}[]} */
  const pieces = [];
  for (let i = 1; i < run.length; i += 1) {
    const uncertain = run[i - 1].uncertain || run[i].uncertain;
    const piece = pieces[pieces.length - 1];
    if (piece?.uncertain === uncertain) piece.readings.push(run[i]);
    else pieces.push({ uncertain, readings: [run[i - 1], run[i]] });
  }
  return pieces;
}

/**
 * What was said over a run.
 * @param {Reading[]} run
 * @returns {Block[]}
 */
export function blocksOf(run) {
  const steps = run.length - 1;
  const tailMs = steps ? Math.min(TAIL_MS, run[steps].atMs - run[steps - 1].atMs) : TAIL_MS;
  /** @type {Block[]} */
  const blocks = [];
  run.forEach(({ atMs, emotion, uncertain }, i) => {
    const word = uncertain ? null : emotion;
    const toMs = run[i + 1]?.atMs ?? atMs + tailMs;
    const last = blocks[blocks.length - 1];
    if (last?.word === word) last.toMs = toMs;
    else blocks.push({ fromMs: atMs, toMs, word });
  });
  return blocks;
}

/**
 * Labels by score, highest first; those that are nearly equal keep their order.
 * @param {string[]} before
 * @param {Record<string, number>} scores
 * @returns {string[]}
 */
export function ordered(before, scores) {
  /** @type {string[]} */
  const order = [];
  for (const label of before) {
    let place = order.length;
    while (place > 0 && scores[label] > scores[order[place - 1]] + LEAST_LEAD) place -= 1;
    order.splice(place, 0, label);
  }
  return order;
}

/**
 * Places at least `gap` apart, as near to the wanted ones as that allows, between `top` and `bottom`.
 * @param {number[]} wanted from top to bottom, or nearly so; their order is kept
 * @param {number} gap made smaller where there is no room for it
 * @param {number} top
 * @param {number} bottom
 * @returns {number[]}
 */
export function spread(wanted, gap, top, bottom) {
  const least = Math.min(gap, (bottom - top) / Math.max(1, wanted.length - 1));
  /** Groups that touch, each around the mean of what its members want. @type {{start: number, sum: number, count: number}[]} */
  const groups = [];
  const startOf = (/** @type {{sum: number, count: number}} */ { sum, count }) =>
    Math.max(top, Math.min(bottom - (count - 1) * least, (sum - (least * count * (count - 1)) / 2) / count));
  for (const place of wanted) {
    let group = { start: 0, sum: place, count: 1 };
    group.start = startOf(group);
    for (let above = groups[groups.length - 1]; above; above = groups[groups.length - 1]) {
      if (above.start + above.count * least <= group.start) break;
      groups.pop();
      group = { start: 0, sum: above.sum + group.sum, count: above.count + group.count };
      group.start = startOf(group);
    }
    groups.push(group);
  }
  return groups.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i * least));
}

/**
 * Seconds before the end that get a mark, 0 not among them.
 * @param {number} spanMs
 * @param {number} width pixels
 * @returns {number[]}
 */
export function ticksOf(spanMs, width) {
  const spanS = spanMs / 1_000;
  const stepS = TICKS_S.find((each) => (each / spanS) * width >= LEAST_TICK) ?? spanS;
  return Array.from({ length: Math.floor(spanS / stepS) }, (_, i) => (i + 1) * stepS);
}

/**
 * How far along its line each reading lies, so that dashes move with the line although its beginning is forgotten.
 * Kept with the reading; of the first one left it stays what it was.
 * @param {Reading[]} run
 * @param {Plot} plot
 */
function measure(run, plot) {
  /** @type {Reading | null} */
  let before = null;
  for (const reading of run) {
    const isKept = reading.arc?.plot === plot && (!before || reading.arc.before === before);
    if (!isKept) reading.arc = { plot, before, lengths: lengthsAfter(before, reading, plot) };
    before = reading;
  }
}

/**
 * @param {Reading | null} before
 * @param {Reading} reading
 * @param {Plot} plot
 * @returns {number[]}
 */
function lengthsAfter(before, reading, plot) {
  const scores = reading.scores ?? [];
  if (!before?.scores || !before.arc) return scores.map(() => 0);
  const { scores: from, arc } = before;
  const right = (reading.atMs - before.atMs) / plot.msPerPixel;
  return scores.map((score, i) => arc.lengths[i] + Math.hypot(right, plot.y(score) - plot.y(from[i])));
}

/**
 * @typedef {{plot: Plot, labels: string[], order: string[], runs: Reading[][], endMs: number, endWord: string,
 *   ink: string, ground: "light" | "dark", font: string}} Drawing
 *   `order`: of the labels at the lines' ends, from top to bottom; `font`: a family
 */

/**
 * Draw lines, strip, axes and labels.
 * @param {CanvasRenderingContext2D} context
 * @param {Drawing} drawing
 */
export function paint(context, drawing) {
  const { plot, runs, font, ink } = drawing;
  context.font = `12px ${font}`;
  context.lineJoin = "round";
  context.textBaseline = "middle";
  context.fillStyle = context.strokeStyle = ink;
  paintAxes(context, drawing);
  for (const run of runs) measure(run, plot);
  context.save();
  context.beginPath();
  context.rect(plot.left, 0, plot.right - plot.left, plot.axis);
  context.clip();
  for (const run of runs) for (const block of blocksOf(run)) paintBlock(context, drawing, block);
  paintChanges(context, drawing);
  // Higher ones on top.
  for (const label of [...drawing.order].reverse()) paintLine(context, drawing, label);
  context.restore();
  paintLabels(context, drawing);
}

/** @param {CanvasRenderingContext2D} context @param {Drawing} drawing */
function paintAxes(context, { plot, endWord }) {
  context.lineWidth = 1;
  context.textAlign = "right";
  for (const percent of [0, 50, 100]) {
    const y = Math.round(plot.y(percent / 100)) + 0.5;
    context.globalAlpha = percent ? 0.15 : 0.4;
    stroke(context, [plot.left, y, plot.right, y]);
    context.globalAlpha = 0.8;
    context.fillText(`${percent} %`, plot.left - 6, y);
  }
  const middle = plot.axis + AXIS / 2 + 1;
  const ticks = ticksOf(plot.spanMs, plot.right - plot.left);
  for (const seconds of [0, ...ticks]) {
    const x = Math.round(plot.right - (seconds * 1_000) / plot.msPerPixel) - 0.5;
    context.globalAlpha = 0.4;
    stroke(context, [x, plot.axis - 2, x, plot.axis + 2]);
    context.globalAlpha = 0.8;
    context.textAlign = seconds ? "center" : "right";
    const text = seconds ? `−${seconds} s` : endWord;
    if (!seconds || x - context.measureText(text).width / 2 >= 0) context.fillText(text, x + (seconds ? 0 : 1), middle);
  }
  context.globalAlpha = 1;
}

/** An upright line where another face took over. @param {CanvasRenderingContext2D} context @param {Drawing} drawing */
function paintChanges(context, { plot, runs, endMs }) {
  context.globalAlpha = 0.5;
  context.setLineDash([1, 2]);
  runs.forEach(([first], i) => {
    if (!i || runs[i - 1][0].faceId === first.faceId) return;
    const x = Math.round(plot.x(first.atMs, endMs)) - 0.5;
    stroke(context, [x, plot.top, x, plot.strip + STRIP]);
  });
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** @param {CanvasRenderingContext2D} context @param {Drawing} drawing @param {string} label */
function paintLine(context, { plot, labels, runs, endMs, ground }, label) {
  const place = labels.indexOf(label);
  context.strokeStyle = colourOf(label, ground);
  context.setLineDash(dashOf(label));
  for (const run of runs) {
    for (const { uncertain, readings } of piecesOf(run)) {
      context.globalAlpha = uncertain ? 0.45 : 1;
      context.lineWidth = uncertain ? 1.25 : 2;
      context.lineDashOffset = readings[0].arc?.lengths[place] ?? 0;
      context.beginPath();
      readings.forEach(({ atMs, scores }, i) => {
        const [x, y] = [plot.x(atMs, endMs), plot.y(scores?.[place] ?? 0)];
        if (i) context.lineTo(x, y);
        else context.moveTo(x, y);
        // A reading that is alone would have no length, and not be seen.
        if (readings.length === 1) context.lineTo(x + 2, y);
      });
      context.stroke();
    }
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** @param {CanvasRenderingContext2D} context @param {Drawing} drawing @param {Block} block */
function paintBlock(context, { plot, endMs, ink, ground }, { fromMs, toMs, word }) {
  const from = plot.x(fromMs, endMs);
  const to = Math.max(from + 1, plot.x(toMs, endMs));
  const fill = word === null ? ink : colourOf(word, ground);
  context.fillStyle = fill;
  if (word !== null) context.fillRect(from, plot.strip, to - from, STRIP);
  else {
    const stepMs = STRIPE * plot.msPerPixel;
    for (let atMs = Math.ceil(fromMs / stepMs) * stepMs; atMs < toMs; atMs += stepMs) {
      context.globalAlpha = 0.35;
      context.fillRect(plot.x(atMs, endMs), plot.strip, 1, STRIP);
    }
    context.globalAlpha = 1;
  }
  paintWord(context, plot, Math.max(from, plot.left), to, word, fill);
  context.fillStyle = ink;
}

/**
 * The word of a block, where there is room for it.
 * @param {CanvasRenderingContext2D} context
 * @param {Plot} plot
 * @param {number} from
 * @param {number} to
 * @param {string | null} word
 * @param {string} fill
 */
function paintWord(context, plot, from, to, word, fill) {
  const text = word ?? "not sure";
  const width = context.measureText(text).width + 8;
  if (to - from < width) return;
  const middle = (from + to) / 2;
  if (word === null) context.clearRect(middle - width / 2, plot.strip, width, STRIP);
  else context.fillStyle = inkOn(fill);
  context.textAlign = "center";
  context.fillText(text, middle, plot.strip + STRIP / 2 + 0.5);
}

/** Names beside the ends of the lines, each with a piece of its line. @param {CanvasRenderingContext2D} context @param {Drawing} drawing */
function paintLabels(context, { plot, labels, order, runs, endMs, ink, ground }) {
  const run = runs[runs.length - 1];
  const last = run?.[run.length - 1];
  const end = last ? Math.min(plot.right, plot.x(last.atMs, endMs)) : null;
  const room = Math.floor((plot.bottom - plot.top) / LABEL_LINE) + 1;
  const shown = order.slice(0, room);
  const ends = shown.map((label) => plot.y(last?.scores?.[labels.indexOf(label)] ?? 0));
  const isFresh = last && endMs - last.atMs <= GAP_MS;
  spread(ends, LABEL_LINE, plot.top, plot.bottom).forEach((y, i) => {
    context.strokeStyle = colourOf(shown[i], ground);
    context.lineWidth = 1;
    context.globalAlpha = 0.5;
    if (isFresh && end !== null) stroke(context, [Math.max(end, plot.right - 8), ends[i], plot.right + 8, y]);
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.setLineDash(dashOf(shown[i]));
    stroke(context, [plot.right + 8, y, plot.right + 8 + SAMPLE, y]);
    context.setLineDash([]);
    context.fillStyle = ink;
    context.textAlign = "left";
    context.fillText(shown[i], plot.right + 12 + SAMPLE, y + 0.5);
  });
}

/** @param {CanvasRenderingContext2D} context @param {number[]} line */
function stroke(context, [fromX, fromY, toX, toY]) {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}

/** Black or white, whichever is read better on a colour. @param {string} colour #rrggbb */
function inkOn(colour) {
  return luminance(colour) > 0.18 ? "#000" : "#fff";
}

/**
 * Relative luminance (WCAG 2.2), 0..1.
 * @param {string} colour #rrggbb
 */
export function luminance(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** The page's elements: what is written and drawn where. It decides nothing. */

/** Colours of Okabe and Ito (2008), which colour-blind people can tell apart. @type {Record<string, string>} */
const COLOURS = {
  angry: "#d55e00",
  disgust: "#009e73",
  fear: "#cc79a7",
  happy: "#e69f00",
  sad: "#0072b2",
  surprise: "#56b4e9",
  neutral: "#8a939c",
};

const LABELS = Object.keys(COLOURS);

/** A word that changes more often cannot be read. */
const WORD_MS = 250;
const FIGURES_MS = 400;
const ANNOUNCE_MS = 2_000;

/** @typedef {{figures: ReturnType<import("./tally.js").Tally["figures"]>, counts: string}} Shown */

/** A box in a frame of that size, both in pixels. @typedef {{box: number[], width: number, height: number, mirrored: boolean}} BoxInFrame */

/**
 * A function that does at once what comes after a pause, and of what comes more often only the newest.
 * @template {any[]} Args
 * @param {number} leastMs
 * @param {(...args: Args) => void} act
 * @returns {(...args: Args) => void}
 */
export function throttled(leastMs, act) {
  /** @type {Args | null} */
  let waiting = null;
  let resting = false;
  const rest = () => {
    resting = true;
    setTimeout(() => {
      resting = false;
      if (!waiting) return;
      act(...waiting);
      waiting = null;
      rest();
    }, leastMs);
  };
  return (...args) => {
    if (resting) {
      waiting = args;
      return;
    }
    act(...args);
    rest();
  };
}

/**
 * Where a picture lies that fills a frame as `object-fit: contain` does.
 * @param {number} outerWidth
 * @param {number} outerHeight
 * @param {number} width
 * @param {number} height
 * @returns {{x: number, y: number, scale: number}}
 */
export function contained(outerWidth, outerHeight, width, height) {
  const scale = Math.min(outerWidth / width, outerHeight / height);
  return { x: (outerWidth - width * scale) / 2, y: (outerHeight - height * scale) / 2, scale };
}

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}

export class View {
  video = element("video", HTMLVideoElement);
  stage = element("stage", HTMLElement);
  controls = element("controls", HTMLFormElement);
  entry = element("entry", HTMLFormElement);
  #key = element("key", HTMLInputElement);
  choose = element("choose", HTMLButtonElement);
  file = element("file", HTMLInputElement);
  #toggle = element("toggle", HTMLButtonElement);
  #placeholder = element("placeholder", HTMLElement);
  #overlay = element("overlay", HTMLCanvasElement);
  #status = element("status", HTMLElement);
  #word = element("word", HTMLElement);
  #bars = element("bars", HTMLUListElement);
  #announcer = element("announcer", HTMLElement);
  #server = element("server", HTMLElement);
  #roundTrip = element("round-trip", HTMLElement);
  #age = element("age", HTMLElement);
  #rate = element("rate", HTMLElement);
  #counts = element("counts", HTMLElement);
  #service = element("service", HTMLElement);
  /** @type {Map<string, {row: HTMLElement, fill: HTMLElement, meter: HTMLElement, value: HTMLElement}>} */
  #rows = new Map();
  /** @type {BoxInFrame | null} */
  #box = null;

  constructor() {
    this.setLabels(LABELS);
    new ResizeObserver(() => this.#draw()).observe(this.stage);
  }

  /**
   * One bar for each label; those that are there already stay.
   * @param {string[]} labels
   */
  setLabels(labels) {
    if (labels.join() === [...this.#rows.keys()].join()) return;
    this.#rows = new Map(labels.map((label) => [label, newRow(label)]));
    this.#bars.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
  }

  /**
   * @param {string} kind
   * @param {string | null} fileName
   * @param {boolean} active
   */
  setSource(kind, fileName, active) {
    for (const radio of this.controls.querySelectorAll("input[type=radio]")) {
      if (radio instanceof HTMLInputElement) radio.checked = radio.value === kind;
    }
    this.choose.hidden = kind !== "file";
    this.choose.textContent = fileName ?? "Choose file…";
    this.#toggle.textContent = active ? "Stop" : "Start";
  }

  /**
   * @param {boolean} shown
   * @param {boolean} mirrored
   */
  showVideo(shown, mirrored) {
    this.video.hidden = !shown;
    this.#placeholder.hidden = shown;
    this.video.classList.toggle("mirrored", mirrored);
  }

  /** Give the stage the picture's shape, so that no bars stand beside it. */
  fitStage() {
    const { videoWidth, videoHeight } = this.video;
    if (videoWidth && videoHeight) this.stage.style.aspectRatio = `${videoWidth} / ${videoHeight}`;
  }

  /**
   * @param {string} text
   * @param {{problem?: boolean}} [tone]
   */
  setStatus(text, { problem = false } = {}) {
    if (this.#status.textContent === text) return;
    this.#status.textContent = text;
    this.#status.classList.toggle("problem", problem);
    if (problem) this.#announce(text);
  }

  /** Show the field for a key, or hide it. @param {boolean} asked */
  askForKey(asked) {
    if (asked && this.entry.hidden) queueMicrotask(() => this.#key.focus());
    this.entry.hidden = !asked;
  }

  /** The key that was typed, which the field forgets. */
  takeKey() {
    const key = this.#key.value;
    this.#key.value = "";
    return key;
  }

  /**
   * What is read from one frame: the word, large (a quiet one is no look of a face), and the numbers beside it, which
   * change together, or they would contradict each other.
   */
  setReading = throttled(
    WORD_MS,
    (
      /** @type {string} */ text,
      /** @type {boolean} */ quiet,
      /** @type {Record<string, number> | null} null: there is no reading */ probabilities = null,
    ) => {
      for (const [label, { row, meter, value }] of this.#rows) {
        const percent = probabilities && Math.round((probabilities[label] ?? 0) * 100);
        row.classList.toggle("winner", !quiet && label === text);
        value.textContent = percent === null ? "–" : `${percent} %`;
        meter.setAttribute("aria-valuenow", String(percent ?? 0));
      }
      if (this.#word.textContent === text) return;
      this.#word.textContent = text;
      this.#word.classList.toggle("quiet", quiet);
      if (text !== "–") this.#announce(text);
    },
  );

  #announce = throttled(ANNOUNCE_MS, (/** @type {string} */ text) => {
    if (this.#announcer.textContent !== text) this.#announcer.textContent = text;
  });

  /** The bars move with every frame. @param {Record<string, number> | null} probabilities null: there is no reading */
  setBars(probabilities) {
    for (const [label, { fill }] of this.#rows) fill.style.transform = `scaleX(${probabilities?.[label] ?? 0})`;
  }

  /** @param {BoxInFrame | null} box */
  setBox(box) {
    this.#box = box;
    this.#draw();
  }

  /** Figures and counts, read only as often as they are shown. */
  setFigures = throttled(FIGURES_MS, (/** @type {() => Shown} */ read) => {
    const { figures, counts } = read();
    this.#server.textContent = milliseconds(figures.serverMs);
    this.#roundTrip.textContent = milliseconds(figures.roundTripMs);
    this.#age.textContent = milliseconds(figures.ageMs);
    this.#rate.textContent = figures.perSecond === null ? "–" : figures.perSecond.toFixed(1);
    this.#counts.textContent = counts;
  });

  /** @param {string} text */
  setService(text) {
    this.#service.textContent = text;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const ratio = devicePixelRatio;
    this.#overlay.width = Math.round(width * ratio);
    this.#overlay.height = Math.round(height * ratio);
    const context = this.#overlay.getContext("2d");
    if (!context || !this.#box) return;
    context.scale(ratio, ratio);
    outline(context, onStage(this.#box, width, height));
  }
}

/**
 * The box in the coordinates of the stage: scaled like the picture, and mirrored like it.
 * @param {BoxInFrame} placed
 * @param {number} stageWidth
 * @param {number} stageHeight
 * @returns {[number, number, number, number]}
 */
export function onStage({ box: [x, y, w, h], width, height, mirrored }, stageWidth, stageHeight) {
  const { x: left, y: top, scale } = contained(stageWidth, stageHeight, width, height);
  return [left + (mirrored ? width - x - w : x) * scale, top + y * scale, w * scale, h * scale];
}

/**
 * White within dark, so that it is seen on any picture.
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number, number, number]} box
 */
function outline(context, box) {
  context.beginPath();
  context.roundRect(...box, 6);
  context.lineWidth = 5;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.stroke();
  context.lineWidth = 2.5;
  context.strokeStyle = "#fff";
  context.stroke();
}

/** @param {string} label */
function newRow(label) {
  const row = document.createElement("li");
  const name = child(row, "name");
  name.textContent = label;
  const meter = child(row, "track");
  meter.setAttribute("role", "meter");
  meter.setAttribute("aria-label", label);
  meter.setAttribute("aria-valuemin", "0");
  meter.setAttribute("aria-valuemax", "100");
  meter.setAttribute("aria-valuenow", "0");
  const fill = child(meter, "fill");
  fill.style.setProperty("--bar", COLOURS[label] ?? COLOURS.neutral);
  const value = child(row, "value");
  value.textContent = "–";
  return { row, fill, meter, value };
}

/**
 * @param {HTMLElement} parent
 * @param {string} className
 */
function child(parent, className) {
  const made = document.createElement("div");
  made.className = className;
  parent.append(made);
  return made;
}

/** @param {number | null} value */
function milliseconds(value) {
  if (value === null) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

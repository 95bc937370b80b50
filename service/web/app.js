/** The page: takes pictures from the source, sends as many as the server takes, shows what it answers. */

import { SourceError, eachFrame, openCamera, openFile } from "./sources.js";
import { Tally } from "./tally.js";
import { JpegEncoder, connect } from "./timeconv.js";
import { View } from "./view.js";

/**
 * What a frame's answer needs of it; `takenMs` is a time of `performance.now()`.
 * @typedef {{width: number, height: number, takenMs: number}} SeenFrame
 */

/** A box that got no successor for so long is not where the face is. */
const BOX_MS = 1_000;

/** Outcomes in words, in the order they are told. @type {Record<string, string>} */
const OUTCOMES = {
  prediction: "answered",
  window_filling: "filling the window",
  no_face: "no face",
  skipped: "skipped",
  superseded: "replaced by a newer one",
  expired: "too old",
  rate_limited: "over the rate limit",
  bad_image: "not readable",
  overloaded: "server overloaded",
  failed: "failed",
  abandoned: "abandoned",
};

const view = new View();
const tally = new Tally();
const encoder = new JpegEncoder();

/** @type {"camera" | "file"} */
let kind = "camera";
/** @type {File | null} */
let file = null;
/** @type {import("./sources.js").Source | null} */
let source = null;
/** Which opening of a source is the newest: the answer of an older one comes too late. */
let opening = 0;
let encoding = false;
/** The stream that frames go to, while there is a source. @type {import("./timeconv.js").Stream | null} */
let stream = null;
/**
 * Those that are not at their end: one that is left still gets its last answers.
 * @type {Set<import("./timeconv.js").Stream>}
 */
const streams = new Set();
/** Lives in this page alone: neither in its address nor in any storage. */
let key = "";
/**
 * How it is with the server. `away`, `busy`: another try comes. `locked`: a key is needed. `refused`: another try would
 * not help. `paused`: the tab is hidden.
 * @typedef {"closed" | "connecting" | "open" | "away" | "busy" | "paused" | "locked" | "refused"} LinkName
 */
/** @type {LinkName} */
let link = "closed";
/** @type {any} */
let lastPrediction = null;
/** @type {any} */
let lastTotals = null;
/** @type {{condition: (snapshot: any) => boolean, resolve: (snapshot: any) => void}[]} */
let waiting = [];
/** @type {number | undefined} */
let boxTimer;

// Source

/** Whether pictures come. */
function isActive() {
  return source?.kind === "camera" || (source?.kind === "file" && !view.video.paused && !view.video.ended);
}

async function start() {
  if (kind === "file" && source) return play();
  if (kind === "file" && !file) return view.file.click();
  await openSource();
}

function stop() {
  if (source?.kind === "file") view.video.pause();
  else closeSource("Stopped.");
}

async function openSource() {
  closeSource(kind === "camera" ? "Waiting for the camera. Allow it if the browser asks." : "Opening the file.");
  const mine = opening;
  try {
    const opened = await (kind === "camera" ? openCamera(view.video, onSourceProblem) : openFile(view.video, chosen()));
    if (mine !== opening) return opened.release();
    source = opened;
  } catch (error) {
    if (mine === opening) onSourceProblem(error);
    return;
  }
  view.showVideo(true, source.kind === "camera");
  if (source.kind === "file") await play();
  follow();
}

/** @returns {File} */
function chosen() {
  if (!file) throw new SourceError("No file is chosen.");
  return file;
}

async function play() {
  try {
    await view.video.play();
  } catch {
    // The browser wants a press on its own play button first; the button is there.
    view.setStatus("Press play in the picture.");
  }
}

/** @param {string} status */
function closeSource(status) {
  opening += 1;
  source?.release();
  source = null;
  view.showVideo(false, false);
  follow();
  view.setStatus(status);
}

/** @param {unknown} error */
function onSourceProblem(error) {
  closeSource("");
  view.setStatus(error instanceof SourceError ? error.message : `The source failed: ${error}`, { problem: true });
}

/** @param {"camera" | "file"} chosenKind */
function choose(chosenKind) {
  if (kind === chosenKind) return;
  kind = chosenKind;
  closeSource(kind === "camera" ? "Press Start for the camera." : "Choose a file, or drop one on the picture.");
}

/** @param {File | undefined} chosenFile */
function chooseFile(chosenFile) {
  if (!chosenFile) return;
  kind = "file";
  file = chosenFile;
  openSource();
}

/** Bring stream and page in step with the source. */
function follow() {
  const active = isActive();
  view.setSource(kind, kind === "file" && file ? file.name : null, active);
  if (active) {
    open();
    return;
  }
  leave();
  clearReading("–");
  if (source) view.setStatus(view.video.ended ? "The video is at its end." : "Paused.");
}

// Frames out

/** @param {import("./sources.js").ShownFrame} shown */
async function onFrame(shown) {
  const to = stream;
  if (!to?.free || encoding || !source || !isActive()) return;
  const capturedUs = source.stampMs(shown) * 1000;
  encoding = true;
  try {
    const picture = await encoder.encode(view.video);
    if (!picture) return;
    const { jpeg, width, height } = picture;
    if (to.trySend(jpeg, { capturedUs, data: { width, height, takenMs: shown.takenMs } })) tally.sent += 1;
  } finally {
    encoding = false;
  }
  changed();
}

// The stream

/** Have a stream. */
function open() {
  if (stream) return;
  const mine = connect(document.baseURI, { key: () => key });
  stream = mine;
  streams.add(mine);
  mine.on("state", (event) => stream === mine && onState(event));
  mine.on("started", ({ message }) => onStarted(message));
  mine.on("prediction", onOutcome);
  mine.on("frame", onOutcome);
  mine.on("lost", () => (tally.lost += 1));
  mine.on("ended", ({ totals }) => {
    lastTotals = totals;
    changed();
  });
  mine.on("closed", ({ error }) => {
    streams.delete(mine);
    if (stream === mine && error) giveUp(error);
    changed();
  });
}

/** Have none; frames on their way are still answered and counted. */
function leave() {
  const left = stream;
  stream = null;
  left?.close();
  setLink("closed");
}

/** @param {import("./timeconv.js").TimeConvError} error */
function giveUp(error) {
  stream = null;
  if (error.code !== "unauthorized") {
    view.setStatus(`The server refused: ${error.message}`, { problem: true });
    return setLink("refused");
  }
  view.setStatus(key ? "The server does not know this key." : "The server asks for an API key.", { problem: true });
  setLink("locked");
}

// Answers in

/** @param {import("./timeconv.js").StateEvent} event */
function onState({ state, error, retryInMs }) {
  const inSeconds = `${Math.max(1, Math.round((retryInMs ?? 0) / 1000))} s`;
  switch (state) {
    case "connecting":
      if (link !== "away" && link !== "busy") view.setStatus("Connecting to the server.");
      return setLink("connecting");
    case "open":
      view.setStatus("Connected. Waiting for the first picture.");
      return setLink("open");
    case "waiting":
    case "offline": {
      // No error: the server goes away in order.
      const isAway = !error || error.code === "unreachable" || error.code === "connection_lost";
      const what = isAway ? "The server is away" : error.message;
      view.setStatus(`${what}. Trying again in ${inSeconds}.`, { problem: true });
      return setLink(isAway ? "away" : "busy");
    }
    case "paused":
      view.setStatus("Paused.");
      return setLink("paused");
  }
}

/** @param {LinkName} name */
function setLink(name) {
  link = name;
  view.askForKey(name === "locked");
  // A result that is not of now must not be taken for one.
  if (name !== "open") clearReading("–");
  changed();
}

/** @param {import("./timeconv.js").SessionStarted} message */
function onStarted(message) {
  tally.sessions += 1;
  if (message.resumed) tally.resumed += 1;
  view.setLabels(message.labels);
  showService(message);
  changed();
}

/** @param {import("./timeconv.js").PredictionEvent | import("./timeconv.js").FrameEvent} event */
function onOutcome({ outcome, message, frame, late }) {
  tally.settle(outcome, message, frame);
  // The last answers of a session that is being closed count, but they are not of what is seen now.
  if (stream && !late) show(outcome, message, frame.data);
  changed();
}

/**
 * @param {string} outcome
 * @param {any} message
 * @param {SeenFrame} frame
 */
function show(outcome, message, frame) {
  switch (outcome) {
    case "prediction":
      lastPrediction = message;
      return showPrediction(message.faces[0], frame);
    case "window_filling":
      showBox(message.detail.box, frame);
      view.setReading("…", true);
      return view.setStatus(`A face. ${framesMore(message.detail.frames_needed)} for a reading.`);
    case "no_face":
      clearReading("no face");
      return view.setStatus("No face in the picture. Come closer, turn to the camera, or make more light.");
    case "bad_image":
    case "failed":
    case "overloaded":
    case "rate_limited":
      return view.setStatus(`The server did not read a frame: ${OUTCOMES[outcome]}.`);
  }
}

/**
 * @param {any} face
 * @param {SeenFrame} frame
 */
function showPrediction(face, frame) {
  showBox(face.box, frame);
  view.setBars(face.smoothed);
  view.setReading(face.uncertain ? "not sure" : face.emotion, face.uncertain, face.smoothed);
  view.setStatus("Reading the face.");
}

/**
 * @param {number[] | undefined} box
 * @param {SeenFrame} frame
 */
function showBox(box, { width, height }) {
  clearTimeout(boxTimer);
  view.setBox(box ? { box, width, height, mirrored: source?.kind === "camera" } : null);
  boxTimer = setTimeout(() => view.setBox(null), BOX_MS);
}

/** @param {string} word */
function clearReading(word) {
  clearTimeout(boxTimer);
  view.setBox(null);
  view.setBars(null);
  view.setReading(word, true);
}

/** @param {number} count */
function framesMore(count) {
  return count === 1 ? "1 more frame is needed" : `${count} more frames are needed`;
}

// Server

/** @returns {Promise<any>} what `/readyz` says; null when nobody answers */
async function readiness() {
  try {
    return await (await fetch("readyz", { cache: "no-store" })).json();
  } catch {
    return null;
  }
}

/** @param {any} [started] the session, once there is one */
async function showService(started) {
  const about = await readiness();
  if (!about?.device) return;
  const model = started ? `${started.model}@${started.version}` : about.model;
  view.setService(`Model ${model} · device ${about.device} · detector ${started?.crop.detector ?? about.detector}`);
}

// Counts, for the page and for whoever tests it

/** Sent = sum of outcomes + in flight + lost. */
function snapshot() {
  return {
    link,
    source: source?.kind ?? null,
    sessions: tally.sessions,
    resumed: tally.resumed,
    sent: tally.sent,
    inFlight: inFlight(),
    lost: tally.lost,
    outcomes: { ...tally.outcomes },
    prediction: lastPrediction,
    totals: lastTotals,
  };
}

function inFlight() {
  return [...streams].reduce((sum, { inFlight }) => sum + inFlight, 0);
}

/** @returns {string} */
function countsInWords() {
  const told = Object.entries(OUTCOMES).filter(([outcome]) => tally.outcomes[outcome]);
  const parts = told.map(([outcome, words]) => `${tally.outcomes[outcome]} ${words}`);
  if (tally.lost) parts.push(`${tally.lost} lost with the connection`);
  if (inFlight()) parts.push(`${inFlight()} on the way`);
  return tally.sent ? `${tally.sent} sent: ${parts.join(", ")}.` : "None yet.";
}

function changed() {
  view.setFigures(() => ({ figures: tally.figures(), counts: countsInWords() }));
  if (!waiting.length) return;
  const now = snapshot();
  waiting = waiting.filter(({ condition, resolve }) => !condition(now) || resolve(now));
}

// Wiring

view.controls.addEventListener("submit", (event) => {
  event.preventDefault();
  if (isActive()) stop();
  else start();
});
view.entry.addEventListener("submit", (event) => {
  event.preventDefault();
  key = view.takeKey();
  follow();
});
view.controls.addEventListener("change", ({ target }) => {
  if (target instanceof HTMLInputElement && target.type === "radio") choose(target.value === "file" ? "file" : "camera");
});
view.choose.addEventListener("click", () => view.file.click());
view.file.addEventListener("change", () => {
  chooseFile(view.file.files?.[0]);
  // The same file, chosen again, is a change too.
  view.file.value = "";
});
for (const event of ["play", "pause", "ended"]) view.video.addEventListener(event, follow);
view.video.addEventListener("resize", () => view.fitStage());

addEventListener("dragover", (event) => {
  event.preventDefault();
  view.stage.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) view.stage.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  view.stage.classList.remove("dropping");
  chooseFile(event.dataTransfer?.files[0]);
});

eachFrame(view.video, (shown) => onFrame(shown).catch(onSourceProblem));
showService();
// Figures of the last two seconds grow old also when nothing comes.
setInterval(changed, 1_000);

Object.defineProperty(window, "timeconv", {
  value: Object.freeze({
    snapshot,
    /**
     * The counts at the first moment when `condition` holds for them.
     * @param {(counts: ReturnType<typeof snapshot>) => boolean} condition
     */
    when: (condition) =>
      new Promise((resolve) => {
        waiting.push({ condition, resolve });
        changed();
      }),
  }),
});

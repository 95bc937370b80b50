/**
 * The page: takes pictures from the source, sends as many as the server takes, and shows what it answers.
 *
 *     sources ─> sender ─> link ══ service        settings   what the user set
 *                            │                    status     the one line that says how it is
 *                            v                    tally      how fast, how old
 *     stage <──────────── faces ─> reading, word, timeline, record
 */

import { element, saveAs, throttled, write } from "./elements.js";
import { Faces, wordOf } from "./faces.js";
import { Link } from "./link.js";
import { ReadingView, NO_READING } from "./reading.js";
import { Record } from "./record.js";
import { RegionPicker } from "./region.js";
import { Sender } from "./sender.js";
import { SettingsForm, changesOf, keep, load, optionsOf, sendsFaceOnly } from "./settings.js";
import { describe, listen } from "./shortcuts.js";
import { SourceError, available, cameras, eachFrame, openCamera, openFile, openScreen } from "./sources.js";
import { Stage, inPicture } from "./stage.js";
import { OUTCOMES, statusOf } from "./status.js";
import { Steady } from "./steady.js";
import { Tally } from "./tally.js";
import { Timeline } from "./timeline.js";
import { WordMode } from "./word.js";

/** @typedef {import("./sources.js").Kind} Kind */
/** @typedef {import("./sender.js").SeenFrame} SeenFrame */

/** What is known of a picture older than this is not shown as if it were of now. */
const STALE_MS = 1_000;
/** A live source from which nothing new has come for so long stands still. */
const STANDING_MS = 2_000;
const TICK_MS = 200;
const FIGURES_MS = 400;
const DESCRIBED_MS = 5_000;
/** What is told to screen readers has stayed so for a while. */
const ANNOUNCED = { settleMs: 800, dwellMs: 2_500 };

const elements = {
  controls: element("controls", HTMLFormElement),
  toggle: element("toggle", HTMLButtonElement),
  choose: element("choose", HTMLButtonElement),
  file: element("file", HTMLInputElement),
  camera: element("camera", HTMLSelectElement),
  cameraField: element("camera-field", HTMLElement),
  sourceNote: element("source-note", HTMLElement),
  placeholder: element("placeholder", HTMLElement),
  status: element("status", HTMLElement),
  entry: element("entry", HTMLFormElement),
  key: element("key", HTMLInputElement),
  fresh: element("fresh", HTMLElement),
  readOf: element("read-of", HTMLElement),
  counts: element("counts", HTMLElement),
  service: element("service", HTMLElement),
  settingsNote: element("settings-note", HTMLElement),
  timeline: element("timeline", HTMLCanvasElement),
  rows: element("rows", HTMLElement),
  saveCsv: element("save-csv", HTMLButtonElement),
  savePng: element("save-png", HTMLButtonElement),
  clear: element("clear", HTMLButtonElement),
  help: element("help", HTMLDetailsElement),
  announcer: element("announcer", HTMLElement),
};

const stage = new Stage(pick);
const reading = new ReadingView(pick);
const region = new RegionPicker((event) => stage.place(event), onRegion);
const word = new WordMode();
const faces = new Faces();
const tally = new Tally();
const sender = new Sender();
const record = new Record();
const timeline = new Timeline(elements.timeline);
const link = new Link(document.baseURI, { state: onLink, started: onStarted, updated: onUpdated, outcome: onOutcome, lost: onLost, counted: changed });
const form = new SettingsForm(element("settings", HTMLFormElement), onSettings);

let settings = load();
let ownModel = "";
/** @type {Kind} */
let kind = "camera";
/** @type {File | null} */
let file = null;
/** @type {import("./sources.js").Source | null} */
let source = null;
/** Which opening of a source is the newest: the answer of an older one comes too late. */
let opening = 0;
let asking = false;
let problem = "";
/** When the source last showed a new picture. */
let pictureMs = 0;
/** When the picture was taken that was last answered with something about faces. */
let answeredTakenMs = -Infinity;
/** @type {import("./status.js").Seen | null} */
let seen = null;
/** @type {any} */
let lastPrediction = null;
/** @type {{condition: (snapshot: any) => boolean, resolve: (snapshot: any) => void}[]} */
let waiting = [];
const frameStatus = new Steady({ settleMs: 300 });
const announced = new Steady(ANNOUNCED);

// Source

/** Whether pictures come. */
function isActive() {
  return source !== null && (source.kind !== "file" || (!stage.video.paused && !stage.video.ended));
}

function toggle() {
  if (isActive() || asking) stop();
  else start();
}

async function start() {
  if (kind === "file" && source) return play();
  if (kind === "file" && !file) return elements.file.click();
  await openSource();
}

function stop() {
  if (source?.kind === "file") stage.video.pause();
  else closeSource();
}

async function openSource() {
  closeSource();
  const mine = opening;
  asking = true;
  tell();
  try {
    const opened = await openOf(kind);
    if (mine !== opening) return opened.release();
    source = opened;
  } catch (error) {
    if (mine === opening) onSourceProblem(error);
    return;
  } finally {
    if (mine === opening) asking = false;
  }
  pictureMs = performance.now();
  stage.showVideo(true, source.mirrored);
  region.offer(source.kind !== "camera");
  if (source.kind === "screen") region.edit(true);
  if (source.kind === "camera") listCameras(source.device);
  if (source.kind === "file") await play();
  follow();
}

/**
 * @param {Kind} wanted
 * @returns {Promise<import("./sources.js").Source>}
 */
function openOf(wanted) {
  if (wanted === "screen") return openScreen(stage.video, onSourceProblem);
  if (wanted === "camera") {
    return openCamera(stage.video, { device: elements.camera.value, widthPx: Math.max(settings.longest, 640) }, onSourceProblem);
  }
  if (!file) throw new SourceError("No file is chosen.");
  return openFile(stage.video, file);
}

async function play() {
  try {
    await stage.video.play();
  } catch {
    // The browser wants a press on its own play button first; the button is there.
  }
}

function closeSource() {
  opening += 1;
  asking = false;
  problem = "";
  source?.release();
  source = null;
  stage.showVideo(false, false);
  region.offer(false);
  follow();
}

/** @param {unknown} error */
function onSourceProblem(error) {
  closeSource();
  problem = error instanceof SourceError ? error.message : `The source failed: ${error}`;
  tell();
}

/** @param {Kind} chosen */
function choose(chosen) {
  if (kind === chosen) return;
  kind = chosen;
  closeSource();
}

/** @param {File | undefined} chosen */
function chooseFile(chosen) {
  if (!chosen) return;
  kind = "file";
  file = chosen;
  openSource();
}

/** @param {string} inUse the camera that there is */
async function listCameras(inUse) {
  const found = await cameras();
  elements.camera.replaceChildren(...found.map(({ value, name }) => new Option(name, value)));
  elements.camera.value = inUse;
  showSource();
}

/** Bring stream and page in step with the source. */
function follow() {
  const active = isActive();
  if (active) link.open(optionsOf(settings));
  else {
    link.leave();
    forget();
  }
  useStream();
  if (active) timeline.start();
  else timeline.stop();
  tell();
}

function useStream() {
  sender.use(link.stream, { ...settings, faceOnly: sendsFaceOnly(settings) });
}

function onRegion() {
  stage.showPart(region.region);
  forget();
}

// Frames out

/** @param {import("./sources.js").ShownFrame} shown */
async function onPicture(shown) {
  if (!source || !isActive()) return;
  pictureMs = performance.now();
  word.draw(stage.video, source.mirrored);
  const capturedUs = source.stampMs(shown) * 1_000;
  const offered = await sender.offer(stage.video, { takenMs: shown.takenMs, capturedUs, region: region.region });
  if (!offered) return;
  if (offered.sent) tally.send(offered.bytes);
  else tally.drop();
  changed();
}

// The server

function onLink() {
  const { name } = link.state;
  const asked = name === "locked";
  if (asked && elements.entry.hidden) queueMicrotask(() => elements.key.focus());
  elements.entry.hidden = !asked;
  if (asked) word.close();
  // A result that is not of now must not be taken for one.
  if (name !== "open") forget();
  useStream();
  tell();
}

/** @param {import("./timeconv.js").SessionStarted} message */
function onStarted(message) {
  tally.sessions += 1;
  if (message.resumed) tally.resumed += 1;
  setLabels(message.labels);
  record.setSession(message);
  showService(message);
  if (!ownModel) listModels();
  changed();
}

/** @param {import("./timeconv.js").SessionUpdated} message */
function onUpdated(message) {
  if (message.labels) setLabels(message.labels);
  const session = link.stream?.session;
  if (session) showService({ ...session, ...versionOf(message.options.model) });
  changed();
}

/** @param {string} spec name@version */
function versionOf(spec) {
  const [model, version] = spec.split("@");
  return { model, version };
}

/** @param {string[]} labels */
function setLabels(labels) {
  reading.setLabels(labels);
  timeline.setLabels(labels);
}

/** @param {{model: string, version: string, crop: {detector: string}}} [session] once there is one */
async function showService(session) {
  const about = await link.readiness();
  if (!about?.device) return;
  const model = session ? `${session.model}@${session.version}` : about.model;
  write(elements.service, `Model ${model} · device ${about.device} · detector ${session?.crop.detector ?? about.detector}`);
}

async function listModels() {
  const found = await link.models();
  if (!found) return;
  ownModel = found.default.split("@")[0];
  form.offerModels(found.models, settings.model);
}

// Answers in

/**
 * @param {import("./timeconv.js").PredictionEvent | import("./timeconv.js").FrameEvent} event
 * @param {boolean} isNow
 */
function onOutcome({ outcome, message, frame }, isNow) {
  tally.settle(outcome, message, frame);
  record.add(outcome, message, frame);
  if (isNow && frame.data.region === region.region) show(outcome, message, frame.data);
  changed();
}

/** @param {import("./timeconv.js").LostEvent} event */
function onLost({ frame }) {
  record.add("unanswered", null, frame);
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
      return showFaces(message, frame);
    case "window_filling":
      seen = { outcome, needed: message.detail.frames_needed, old: false };
      return showNone("…", frame, message.detail.box);
    case "no_face":
      seen = { outcome, old: false };
      return showNone("no face", frame);
    case "superseded":
      return;
    default:
      seen = { outcome, old: false };
      tell();
  }
}

/**
 * @param {import("./timeconv.js").Prediction} message
 * @param {SeenFrame} frame
 */
function showFaces(message, frame) {
  lastPrediction = message;
  answeredTakenMs = frame.takenMs;
  faces.see(message.faces, performance.now());
  for (const face of message.faces) {
    if (face.state === "ready") timeline.add({ atMs: frame.takenMs, faceId: face.id, ...face });
  }
  const { read } = faces;
  seen = { outcome: "prediction", face: read, away: faces.away ? faces.picked : null, gone: faces.gone, old: false };
  if (read?.state !== "ready") timeline.breakAt(frame.takenMs);
  showFace(read);
  word.calm.see(read ? wordOf(read) : "–", frame.takenMs);
  const areas = message.faces.map((face) => ({ id: face.id, area: inPicture(face.box, frame), words: `${face.id} · ${wordOf(face)}`, read: face === read, ready: face.state === "ready" }));
  stage.mark(areas);
  showWhose();
  tell();
}

/** @param {import("./timeconv.js").FaceResult | null} face */
function showFace(face) {
  if (face?.state !== "ready") return reading.show({ ...NO_READING, word: face ? "…" : "–" });
  const raw = settings.raw ? face.probabilities : null;
  reading.show({ word: wordOf(face), sure: !face.uncertain, scores: face.smoothed, raw });
}

/**
 * A picture without a reading.
 * @param {string} said
 * @param {SeenFrame} frame
 * @param {number[]} [box] of a face whose window fills
 */
function showNone(said, frame, box) {
  answeredTakenMs = frame.takenMs;
  faces.see([], performance.now());
  timeline.breakAt(frame.takenMs);
  reading.show({ ...NO_READING, word: said });
  word.calm.see(said, frame.takenMs);
  stage.mark(box ? [{ id: null, area: inPicture(box, frame), words: "", read: true, ready: false }] : []);
  showWhose();
  tell();
}

/** Nothing is known of now. */
function forget() {
  seen = null;
  answeredTakenMs = -Infinity;
  frameStatus.set("", performance.now());
  clear();
}

function clear() {
  faces.see([], performance.now());
  timeline.breakAt(performance.now());
  stage.mark([]);
  reading.show(NO_READING);
  word.calm.forget();
  showWhose();
}

/** @param {number | null} id null: the largest */
function pick(id) {
  faces.pick(id, performance.now());
  timeline.follow(id);
  showFace(faces.read);
  showWhose();
  changed();
}

function showWhose() {
  reading.listFaces(faces);
  if (faces.gone !== null && faces.picked === null) timeline.follow(null);
  const several = faces.all.length > 1 || faces.picked !== null;
  write(elements.readOf, several ? `of face ${faces.picked ?? faces.read?.id ?? "–"}${faces.picked === null ? ", the largest" : ""}` : "");
}

// How it is

/** @returns {import("./status.js").SourceState} */
function sourceState() {
  const hasFile = file !== null;
  if (!source) return { kind, state: asking ? "asking" : "none", problem, hasFile };
  if (isActive()) return { kind, state: performance.now() - pictureMs > STANDING_MS ? "standing" : "playing", problem, hasFile };
  return { kind, state: stage.video.ended ? "ended" : "paused", problem, hasFile };
}

/** Say it. */
function tell() {
  const now = performance.now();
  const state = sourceState();
  const isOfFrames = link.state.name === "open" && state.state === "playing";
  const { text, problem: isProblem } = statusOf(state, link.state, link.hasKey, seen);
  // What differs from frame to frame is said once it has stayed so; else it could not be read.
  const shown = isOfFrames && frameStatus.shown ? frameStatus.see(text, now) : text;
  if (!isOfFrames || !frameStatus.shown) frameStatus.set(isOfFrames ? text : "", now);
  write(elements.status, shown);
  if (shown === text) elements.status.classList.toggle("problem", isProblem);
  write(elements.placeholder, text);
  word.update(isProblem || state.state !== "playing" ? text : "", now);
  announce(isProblem ? text : "");
  showSource();
  changed();
}

/** @param {string} urgent a problem, which is told at once */
function announce(urgent) {
  if (urgent) {
    announced.set(urgent, performance.now());
    return write(elements.announcer, urgent);
  }
  // In "one word" the word itself is told.
  if (word.isOpen || !seen) return;
  const said = seen.outcome === "no_face" ? "no face" : faces.read && wordOf(faces.read);
  if (said && said !== "…") write(elements.announcer, announced.see(said, performance.now()));
}

function showSource() {
  for (const radio of elements.controls.querySelectorAll("input[type=radio]")) {
    if (radio instanceof HTMLInputElement) radio.checked = radio.value === kind;
  }
  elements.choose.hidden = kind !== "file";
  write(elements.choose, file ? file.name : "Choose file…");
  elements.cameraField.hidden = kind !== "camera" || elements.camera.options.length < 2;
  write(elements.toggle, isActive() || asking ? "Stop" : "Start");
}

/** What grows old while nothing comes. */
function tick() {
  const now = performance.now();
  const isOld = now - answeredTakenMs > STALE_MS;
  if (seen && isOld && !seen.old && answeredTakenMs > -Infinity) {
    seen.old = true;
    clear();
  }
  showFreshness(now, isOld);
  tell();
}

/**
 * @param {number} now
 * @param {boolean} isOld
 */
function showFreshness(now, isOld) {
  const { fresh } = elements;
  fresh.hidden = !isActive();
  if (fresh.hidden) return;
  const ageMs = tally.figures(now).ageMs;
  fresh.dataset.state = isOld ? "old" : "live";
  const since = now - answeredTakenMs;
  if (!isOld) write(fresh, ageMs === null ? "Live" : `Live · ${Math.round(ageMs)} ms old`);
  else write(fresh, Number.isFinite(since) ? `Nothing for ${(since / 1_000).toFixed(0)} s` : "No answer yet");
}

// Figures

const showFigures = throttled(FIGURES_MS, () => {
  const { serverMs, roundTripMs, ageMs, perSecond, dropped, bytesPerSecond } = tally.figures();
  write(element("server", HTMLElement), milliseconds(serverMs));
  write(element("round-trip", HTMLElement), milliseconds(roundTripMs));
  write(element("age", HTMLElement), milliseconds(ageMs));
  write(element("rate", HTMLElement), perSecond === null ? "–" : perSecond.toFixed(1));
  write(element("dropped", HTMLElement), dropped === null ? "–" : `${Math.round(dropped * 100)} %`);
  write(element("bytes", HTMLElement), bytesPerSecond === null ? "–" : `${Math.round(bytesPerSecond / 1_000)} kB`);
  write(elements.counts, countsInWords());
  const saved = `${record.rows} ${record.rows === 1 ? "row" : "rows"} to save`;
  write(elements.rows, record.dropped ? `${saved}; ${record.dropped} older ones dropped` : saved);
  elements.saveCsv.disabled = elements.clear.disabled = record.rows === 0;
});

/** @param {number | null} value */
function milliseconds(value) {
  if (value === null) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** @returns {string} */
function countsInWords() {
  const { sent, lost, inFlight, outcomes } = link.counts;
  const told = Object.entries(OUTCOMES).filter(([outcome]) => outcomes[outcome]);
  const parts = told.map(([outcome, words]) => `${outcomes[outcome]} ${words}`);
  if (lost) parts.push(`${lost} lost with the connection`);
  if (inFlight) parts.push(`${inFlight} on the way`);
  return sent ? `${sent} sent: ${parts.join(", ")}.` : "None yet.";
}

// Settings

/** @param {import("./settings.js").Settings} wanted */
async function onSettings(wanted) {
  const before = settings;
  apply(wanted);
  keep(wanted);
  if (wanted.longest !== before.longest) write(elements.settingsNote, "Picture size: from the next frame on.");
  const changes = changesOf(before, wanted, ownModel);
  if (!link.stream || !Object.keys(changes).length) return;
  try {
    await link.stream.update(changes);
    write(elements.settingsNote, "");
  } catch (error) {
    // It was refused whole, so the service goes on as before, and so does the page.
    apply(before);
    keep(before);
    write(elements.settingsNote, `The server refused that: ${error instanceof Error ? error.message : error}`);
  }
}

/** @param {import("./settings.js").Settings} now */
function apply(now) {
  settings = now;
  form.show(now);
  reading.showRaw(now.raw);
  useStream();
  changed();
}

// Counts, for the page and for whoever tests it

/** Sent = sum of outcomes + in flight + lost. */
function snapshot() {
  return {
    link: link.state.name,
    source: source?.kind ?? null,
    sessions: tally.sessions,
    resumed: tally.resumed,
    ...link.counts,
    prediction: lastPrediction,
    totals: link.totals,
    options: link.stream?.session?.options ?? null,
    faces: faces.all.map(({ id, state }) => ({ id, state })),
    read: faces.read?.id ?? null,
    picked: faces.picked,
    faceOnly: { ...sender.faceCounts, now: sender.sendsFace },
    rows: record.rows,
  };
}

function changed() {
  showFigures();
  if (!waiting.length) return;
  const now = snapshot();
  waiting = waiting.filter(({ condition, resolve }) => !condition(now) || resolve(now));
}

// Wiring

elements.controls.addEventListener("submit", (event) => {
  event.preventDefault();
  toggle();
});
elements.entry.addEventListener("submit", (event) => {
  event.preventDefault();
  link.setKey(elements.key.value);
  elements.key.value = "";
  follow();
});
elements.controls.addEventListener("change", ({ target }) => {
  if (target === elements.camera) openSource();
  else if (target instanceof HTMLInputElement && target.type === "radio") choose(/** @type {Kind} */ (target.value));
});
elements.choose.addEventListener("click", () => elements.file.click());
elements.file.addEventListener("change", () => {
  chooseFile(elements.file.files?.[0]);
  // The same file, chosen again, is a change too.
  elements.file.value = "";
});
for (const event of ["play", "pause", "ended"]) stage.video.addEventListener(event, () => source && follow());

addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.root.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) stage.root.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  stage.root.classList.remove("dropping");
  chooseFile(event.dataTransfer?.files[0]);
});

elements.saveCsv.addEventListener("click", () => saveAs(record.toCsv(), `timeconv-${timeOfDay()}.csv`));
elements.savePng.addEventListener("click", async () => saveAs(await timeline.toPng(), `timeconv-${timeOfDay()}.png`));
elements.clear.addEventListener("click", () => {
  record.clear();
  timeline.clear();
  changed();
});

/** As it may stand in a file's name. */
function timeOfDay() {
  return new Date().toISOString().slice(0, 19).replaceAll(":", "-");
}

function openWord() {
  word.open();
  if (!isActive() && !asking && kind !== "file") start();
}

element("word-open", HTMLButtonElement).addEventListener("click", openWord);
listen(
  {
    toggle,
    word: () => (word.isOpen ? word.close() : openWord()),
    next: () => pick(faces.next()),
    largest: () => pick(null),
    part: () => region.offered && !word.isOpen && region.edit(!region.editing),
    help: () => {
      word.close();
      elements.help.open = true;
      elements.help.querySelector("summary")?.focus();
    },
  },
  () => settings.shortcuts,
);
describe(element("keys", HTMLElement));

function offerSources() {
  const has = available();
  for (const radio of elements.controls.querySelectorAll("input[type=radio]")) {
    if (radio instanceof HTMLInputElement && radio.parentElement) radio.parentElement.hidden = !has[/** @type {Kind} */ (radio.value)];
  }
  if (has.camera) return;
  kind = "file";
  write(elements.sourceNote, "Browsers give camera and screen only to pages from https or localhost. A video file works here.");
}

offerSources();
apply(settings);
eachFrame(stage.video, (shown) => onPicture(shown).catch(onSourceProblem));
showService();
// Where keys are asked for this is refused before there is one: it is asked when it is wanted.
element("settings-panel", HTMLDetailsElement).addEventListener("toggle", () => ownModel || listModels());
setInterval(tick, TICK_MS);
setInterval(() => elements.timeline.setAttribute("aria-label", timeline.description() || "Timeline: nothing yet"), DESCRIBED_MS);
tell();

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

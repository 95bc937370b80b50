/**
 * The page: takes pictures from the source, sends as many as the server takes, and shows what it answers.
 *
 *     panel ── sources ─> sender ─> link ══ service       settings           what the user set
 *     stage                          │                    status, telling    the line that says how it is
 *     region                         v                    tally, figures     how fast, how old
 *     stage <───────────────────── faces ─> reading, word, history
 */

import { element, write } from "./elements.js";
import { Faces, wordOf } from "./faces.js";
import { FiguresView } from "./figures.js";
import { History } from "./history.js";
import { Link } from "./link.js";
import { SourcePanel } from "./panel.js";
import { NO_READING, ReadingView } from "./reading.js";
import { RegionPicker } from "./region.js";
import { Sender } from "./sender.js";
import { SettingsForm, changesOf, keep, load, optionsOf, sendsFaceOnly } from "./settings.js";
import { describe, listen } from "./shortcuts.js";
import { eachFrame } from "./sources.js";
import { Stage, inPicture } from "./stage.js";
import { statusOf } from "./status.js";
import { Tally } from "./tally.js";
import { Telling } from "./telling.js";
import { TimeConvError } from "./timeconv.js";
import { WordMode } from "./word.js";

/** @typedef {import("./sender.js").SeenFrame} SeenFrame */

/** What is known of a picture older than this is not shown as if it were of now. */
const STALE_MS = 1_000;
const TICK_MS = 200;

const entry = element("entry", HTMLFormElement);
const keyField = element("key", HTMLInputElement);
const readOf = element("read-of", HTMLElement);
const service = element("service", HTMLElement);
const settingsNote = element("settings-note", HTMLElement);

const stage = new Stage(pick);
const reading = new ReadingView(pick);
const region = new RegionPicker((event) => stage.place(event), onRegion);
const word = new WordMode(() => panel.toggle());
const faces = new Faces();
const history = new History();
const tally = new Tally();
const figures = new FiguresView();
const telling = new Telling();
const sender = new Sender();
const link = new Link(document.baseURI, { state: onLink, started: onStarted, updated: onUpdated, outcome: onOutcome, lost: onLost, counted: changed });
const form = new SettingsForm(element("settings", HTMLFormElement), onSettings);

let settings = load();
/** The service's own network. */
let ownModel = "";
/** When the picture was taken that was last answered with something about faces. */
let answeredTakenMs = -Infinity;
/** @type {import("./status.js").Seen | null} */
let seen = null;
/** @type {any} */
let lastPrediction = null;
/** @type {import("./sources.js").Source | null} */
let lastSource = null;
/** @type {{condition: (snapshot: any) => boolean, resolve: (snapshot: any) => void}[]} */
let waiting = [];

const panel = new SourcePanel(stage, () => Math.max(settings.longest, 640), onSource);

// The source

/** Bring stream and page in step with the source. */
function onSource() {
  const { source, isActive } = panel;
  if (source !== lastSource) {
    lastSource = source;
    faces.pick(null, performance.now());
    history.follow(null);
    region.offer(source !== null && source.kind !== "camera");
    if (source?.kind === "screen") region.edit(true);
  }
  if (isActive) link.open(optionsOf(settings));
  else if (link.stream) link.leave();
  if (!isActive) {
    forget();
    answeredTakenMs = -Infinity;
  }
  word.offerStart(panel.offersStart);
  useStream();
  history.run(isActive);
  tell();
}

function useStream() {
  sender.use(link.stream, { ...settings, faceOnly: sendsFaceOnly(settings) });
}

function onRegion() {
  stage.showPart(region.region);
  forget();
}

/** @param {import("./sources.js").ShownFrame} shown */
async function onPicture(shown) {
  const { source } = panel;
  if (!source || !panel.isActive) return;
  panel.shown();
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
  if (asked && entry.hidden) queueMicrotask(() => keyField.focus());
  entry.hidden = !asked;
  // The field for the key is on the page behind.
  if (asked) word.close();
  // It may be that a network which was kept as a setting is no longer there.
  if (name === "refused") listModels();
  // A result that is not of now must not be taken for one.
  if (name !== "open") forget();
  useStream();
  tell();
}

/** @param {import("./timeconv.js").SessionStarted} message */
function onStarted(message) {
  tally.sessions += 1;
  if (message.resumed) tally.resumed += 1;
  else faces.lose();
  reading.setLabels(message.labels);
  history.setSession(message);
  showService(message);
  if (!ownModel) listModels();
  changed();
}

/** @param {import("./timeconv.js").SessionUpdated} message */
function onUpdated(message) {
  const session = link.stream?.session;
  if (!session) return;
  const [model, version] = message.options.model.split("@");
  reading.setLabels(session.labels);
  history.setSession(session);
  showService({ ...session, model, version });
  changed();
}

/** @param {{model: string, version: string, crop: {detector: string}}} [session] once there is one */
async function showService(session) {
  const about = await link.readiness();
  if (!about?.device) return;
  const model = session ? `${session.model}@${session.version}` : about.model;
  write(service, `Network ${model} · device ${about.device} · detector ${session?.crop.detector ?? about.detector}`);
}

async function listModels() {
  const found = await link.models();
  if (!found) return;
  ownModel = found.default.split("@")[0];
  form.offerModels(found.models, settings.model);
  const wanted = form.read();
  if (wanted.model !== settings.model) onSettings(wanted);
}

// Answers

/**
 * @param {import("./timeconv.js").PredictionEvent | import("./timeconv.js").FrameEvent} event
 * @param {boolean} isNow
 */
function onOutcome({ outcome, message, frame }, isNow) {
  tally.settle(outcome, message, frame);
  history.keep(outcome, message, frame);
  if (isNow && panel.isActive && frame.data.region === region.region) show(outcome, message, frame.data);
  changed();
}

/** @param {import("./timeconv.js").LostEvent} event */
function onLost({ frame }) {
  history.keep("lost", null, frame);
  changed();
}

/**
 * @param {string} outcome
 * @param {any} message
 * @param {SeenFrame} frame
 */
function show(outcome, message, frame) {
  // Other outcomes may overtake predictions.
  if (frame.takenMs < answeredTakenMs) return;
  if (performance.now() - frame.takenMs > STALE_MS) {
    seen = { outcome: "expired", old: false };
    return tell();
  }
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
    case "skipped":
      // Another of these pictures is answered.
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
  history.read(message.faces, frame.takenMs);
  const { read } = faces;
  if (read?.state !== "ready") history.breakAt(frame.takenMs);
  seen = { outcome: "prediction", face: read, away: faces.away ? faces.picked : null, gone: faces.gone, old: false };
  word.calm.see(read ? wordOf(read) : NO_READING.word, frame.takenMs);
  stage.mark(message.faces.map((face) => marked(face, frame)));
  showRead();
  tell();
}

/**
 * @param {import("./timeconv.js").FaceResult} face
 * @param {SeenFrame} frame
 */
function marked(face, frame) {
  const { id, box, state } = face;
  return { id, area: inPicture(box, frame), words: `${id} · ${wordOf(face)}`, read: face === faces.read, ready: state === "ready" };
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
  history.breakAt(frame.takenMs);
  word.calm.see(said, frame.takenMs);
  stage.mark(box ? [{ id: null, area: inPicture(box, frame), words: "", read: true, ready: false }] : []);
  showRead(said);
  tell();
}

/** Write what is said of the face that is read. @param {string} [said] where there is none */
function showRead(said = NO_READING.word) {
  const { read } = faces;
  if (read?.state === "ready") {
    reading.show({ word: wordOf(read), sure: !read.uncertain, scores: read.smoothed, raw: settings.raw ? read.probabilities : null });
  } else {
    reading.show({ ...NO_READING, word: read ? wordOf(read) : said });
  }
  if (faces.gone !== null) history.follow(null);
  reading.listFaces(faces);
  write(readOf, whose());
}

/** Of several faces, which is read. */
function whose() {
  if (faces.picked !== null) return `of face ${faces.picked}`;
  return faces.all.length > 1 ? `of face ${faces.all[0].id}, the largest` : "";
}

/** @param {number | null} id null: the largest */
function pick(id) {
  faces.pick(id, performance.now());
  history.follow(id);
  showRead();
  changed();
}

/** Nothing is known of now. */
function forget() {
  seen = null;
  clear();
}

function clear() {
  faces.see([], performance.now());
  history.breakAt(performance.now());
  stage.mark([]);
  word.calm.forget();
  showRead();
}

// How it is

function tell() {
  const now = performance.now();
  const { state } = panel;
  const status = statusOf(state, link.state, link.hasKey, seen);
  telling.say(status, link.state.name === "open" && state.state === "playing", now);
  // In "one word" the word itself is told.
  if (!seen || seen.old || word.isOpen) telling.hush(status, now);
  else if (!status.spoken) telling.voice(spoken(), now);
  word.update(status.problem || state.state !== "playing" ? status.text : whose(), now);
  changed();
}

function spoken() {
  if (seen?.outcome === "no_face") return "no face";
  return faces.read?.state === "ready" ? wordOf(faces.read) : "";
}

/** What grows old while nothing comes. */
function tick() {
  const sinceMs = performance.now() - answeredTakenMs;
  if (seen && !seen.old && sinceMs > STALE_MS) {
    seen.old = true;
    clear();
  }
  figures.showFreshness(panel.isActive, sinceMs, !seen || sinceMs > STALE_MS, tally.figures().ageMs);
  tell();
}

// Settings

/** @param {import("./settings.js").Settings} wanted */
async function onSettings(wanted) {
  const before = settings;
  apply(wanted);
  keep(wanted);
  const changes = changesOf(before, wanted, ownModel);
  if (link.state.name === "refused") return onSource();
  if (!link.stream || !Object.keys(changes).length) return;
  try {
    await link.stream.update(changes);
    write(settingsNote, "");
  } catch (error) {
    // Stopped before it was answered: the next session begins with it.
    if (error instanceof TimeConvError && error.code === "closed") return;
    // It was refused whole: the service goes on as before, and so does the page, but for what was changed since.
    const refused = Object.entries(before).filter(([name, value]) => value !== /** @type {any} */ (wanted)[name]);
    apply({ ...settings, ...Object.fromEntries(refused) });
    keep(settings);
    write(settingsNote, `The server refused that: ${error instanceof Error ? error.message : error}`);
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
    source: panel.source?.kind ?? null,
    sessions: tally.sessions,
    resumed: tally.resumed,
    ...link.counts,
    prediction: lastPrediction,
    totals: link.totals,
    options: link.stream?.session?.options ?? null,
    faces: faces.all.map(({ id, state }) => ({ id, state })),
    picked: faces.picked,
    faceOnly: { ...sender.faceCounts, now: sender.sendsFace },
    rows: history.rows,
  };
}

function changed() {
  figures.show(() => ({ figures: tally.figures(), counts: link.counts }));
  if (!waiting.length) return;
  const now = snapshot();
  waiting = waiting.filter(({ condition, resolve }) => !condition(now) || resolve(now));
}

// Wiring

entry.addEventListener("submit", (event) => {
  event.preventDefault();
  link.setKey(keyField.value);
  keyField.value = "";
  onSource();
});

function openWord() {
  word.open();
  if (panel.state.state === "none" && !panel.wantsFile) panel.start();
  tell();
}

function showHelp() {
  word.close();
  const help = element("help", HTMLDetailsElement);
  help.open = true;
  help.querySelector("summary")?.focus();
}

element("word-open", HTMLButtonElement).addEventListener("click", openWord);
describe(element("keys", HTMLElement));
listen(
  {
    toggle: () => panel.toggle(),
    word: () => (word.isOpen ? word.close() : openWord()),
    next: () => pick(faces.next()),
    largest: () => pick(null),
    part: () => region.offered && !word.isOpen && region.edit(!region.editing),
    help: showHelp,
  },
  () => settings.shortcuts,
);

// Where keys are asked for the list is refused before there is one, so it is asked for when it is wanted.
element("settings-panel", HTMLDetailsElement).addEventListener("toggle", () => ownModel || listModels());
apply(settings);
eachFrame(stage.video, (shown) => onPicture(shown).catch((error) => panel.fail(error)));
showService();
setInterval(tick, TICK_MS);
onSource();

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

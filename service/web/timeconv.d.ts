/** Types of timeconv.js; docs/javascript.md explains them by example. */

// Messages of the service, as docs/protocol.md has them

export type Outcome =
  | "prediction"
  | "window_filling"
  | "no_face"
  | "skipped"
  | "superseded"
  | "expired"
  | "rate_limited"
  | "bad_image"
  | "overloaded"
  | "failed"
  | "abandoned";

/** [x, y, w, h] in pixels of the upright frame that was sent. */
export type Box = [number, number, number, number];

export interface Options {
  model?: string;
  faces?: number;
  region?: "detect" | "whole";
  freshness?: "latest" | "every";
  /** Here the default is true. */
  timestamps?: boolean;
  max_age_ms?: number | null;
  stride?: number;
  smoothing_ms?: number;
}

export type OptionChanges = Omit<Options, "timestamps">;

export interface CropInfo {
  size: number;
  detector: string;
  scale: number;
  dx: number;
  dy: number;
}

export interface Limits {
  max_frame_bytes: number;
  max_frame_pixels: number;
  gap_reset_ms: number;
}

export interface SessionStarted {
  type: "session.started";
  session: string;
  model: string;
  version: string;
  labels: string[];
  window: number;
  crop: CropInfo;
  limits: Limits;
  options: Required<Options>;
  max_in_flight: number;
  next_seq: number;
  resumed: boolean;
  resume_token: string | null;
}

export interface Quality {
  size: number;
  brightness: number;
  sharpness: number;
}

interface FaceSeen {
  id: number;
  box: Box;
  crop_box: Box;
  score: number;
  quality: Quality;
}

/** A face with a full window. */
export interface ReadyFace extends FaceSeen {
  state: "ready";
  emotion: string;
  probabilities: Record<string, number>;
  smoothed: Record<string, number>;
  raw_emotion: string;
  uncertain: boolean;
}

/** A face whose window lacks so many frames. */
export interface FillingFace extends FaceSeen {
  state: "filling";
  frames_needed: number;
}

export type FaceResult = ReadyFace | FillingFace;

export interface Timing {
  wait: number;
  decode: number;
  detect: number;
  crop: number;
  queue: number;
  infer: number;
  total: number;
}

export interface Prediction {
  type: "prediction";
  seq: number;
  age_ms: number;
  captured_us?: number;
  faces: FaceResult[];
  timing_ms: Timing;
  batch_size: number;
  /** Only of `look`: one picture stood for the whole window. */
  repeated?: boolean;
}

export interface FrameOutcome {
  type: "frame";
  seq: number;
  outcome: Outcome;
  age_ms: number;
  captured_us?: number;
  detail: { frames_needed?: number; box?: Box; reason?: string; message?: string; [more: string]: unknown };
}

export interface FramesOutcome {
  type: "frames";
  from: number;
  to: number;
  outcome: Outcome;
}

export interface SessionUpdated {
  type: "session.updated";
  options: Required<Options>;
  from_seq: number;
  max_in_flight: number;
  by: "client" | "service";
  labels?: string[];
  crop?: CropInfo;
}

export interface ErrorMessage {
  type: "error";
  code: string;
  message: string;
  retryable: boolean;
  retry_after_ms: number | null;
  close_code: number | null;
}

export interface GoAway {
  type: "goaway";
  time_left_ms: number;
  resume_token: string | null;
}

export interface Totals {
  received: number;
  outcomes: Partial<Record<Outcome, number>>;
}

export interface SessionClosed {
  type: "session.closed";
  totals: Totals;
}

export interface SessionUpdate {
  type: "session.update";
  options: OptionChanges;
}

export interface SessionClose {
  type: "session.close";
}

// Events of a stream

/** A frame that was sent, as its answer brings it back. */
export interface SentFrame<Data = any> {
  /** Counts the frames of this stream. */
  id: number;
  /** Counts those of the session. */
  seq: number;
  session: string;
  /** Microseconds since 1970, or of whatever clock was given. */
  capturedUs: number;
  /** Time of `performance.now()`. */
  sentMs: number;
  /** What the sender gave with it. */
  data: Data;
  place?: Place;
}

export interface PredictionEvent {
  type: "prediction";
  outcome: "prediction";
  message: Prediction;
  frame: SentFrame;
  /** The session was left (`pause`, `close`) before the answer came: it counts, but is not of what is seen now. */
  late: boolean;
}

/** A frame without a prediction: `message` says why. */
export interface FrameEvent {
  type: "frame";
  outcome: Exclude<Outcome, "prediction">;
  message: FrameOutcome | FramesOutcome;
  frame: SentFrame;
  late: boolean;
}

/** A frame whose outcome will never come, since its connection broke. */
export interface LostEvent {
  type: "lost";
  outcome: "lost";
  frame: SentFrame;
  late: boolean;
}

export interface StartedEvent {
  type: "started";
  message: SessionStarted;
}

export interface UpdatedEvent {
  type: "updated";
  message: SessionUpdated;
}

export interface GoAwayEvent {
  type: "goaway";
  message: GoAway;
}

export type StateName = "connecting" | "open" | "waiting" | "offline" | "paused" | "closing" | "closed";

export interface StateEvent {
  type: "state";
  /** `waiting`: for the next try, as `offline`, where a network has to come first. */
  state: StateName;
  /** Failed tries since the last answer. */
  attempt: number;
  /** Why it waits or is closed; null where it ended in order. */
  error: TimeConvError | null;
  retryInMs: number | null;
  /** Whether the next session may go on with this one. */
  willResume: boolean;
}

/** One session is at its end; totals only if it ended in order. */
export interface EndedEvent {
  type: "ended";
  totals: Totals | null;
  error: TimeConvError | null;
}

/** Last of all: the stream is at its end, by `close` (no error) or because no other try can help. */
export interface ClosedEvent {
  type: "closed";
  totals: Totals | null;
  error: TimeConvError | null;
}

export interface Events {
  prediction: PredictionEvent;
  frame: FrameEvent;
  lost: LostEvent;
  started: StartedEvent;
  updated: UpdatedEvent;
  goaway: GoAwayEvent;
  state: StateEvent;
  ended: EndedEvent;
  closed: ClosedEvent;
}

export type StreamEvent = Events[keyof Events];

/** What is wrong: a `code` of docs/protocol.md, or of this module: see docs/javascript.md. */
export class TimeConvError extends Error {
  constructor(
    code: string,
    message: string,
    about?: {
      retryable?: boolean;
      retryAfterMs?: number | null;
      status?: number | null;
      closeCode?: number | null;
      cause?: unknown;
    },
  );
  code: string;
  retryable: boolean;
  retryAfterMs: number | null;
  /** HTTP status of a refusal. */
  status: number | null;
  /** Close code of a WebSocket. */
  closeCode: number | null;
}

type Secret = string | (() => string | undefined | Promise<string | undefined>);

export interface StreamSettings {
  /** API key; a function is asked each time. */
  key?: Secret;
  /** Token of `POST /v1/tokens`, fetched by somebody who has the key; asked at each try, in the place of `key`. */
  token?: () => string | Promise<string>;
  options?: Options;
  /** false: not at all. Defaults: 250 ms, doubled to 15 s, for ever. */
  reconnect?: false | { firstMs?: number; mostMs?: number; attempts?: number };
  /** A connection is taken for dead when nothing comes for so long while frames wait; 8 s, with `every` 30 s. */
  silenceMs?: number;
  /** Whether a hidden page has no session; true. */
  pauseWhenHidden?: boolean;
  WebSocket?: new (url: string, subprotocols: string[]) => WebSocket;
  fetch?: typeof fetch;
}

export interface Counts {
  sent: number;
  lost: number;
  inFlight: number;
  outcomes: Partial<Record<Outcome, number>>;
}

type Jpeg = Blob | ArrayBuffer | ArrayBufferView;

/** sent = sum of outcomes + lost + inFlight, at any moment. */
export class Stream {
  constructor(url: string | URL, settings?: StreamSettings);
  get state(): StateEvent;
  get session(): SessionStarted | null;
  get options(): Options;
  get inFlight(): number;
  get counts(): Counts;
  get free(): boolean;
  trySend(jpeg: Jpeg, about?: { capturedUs?: number; data?: unknown; place?: Place }): SentFrame | null;
  send(jpeg: Jpeg, about?: { capturedUs?: number; data?: unknown; place?: Place }): Promise<SentFrame>;
  update(changes: OptionChanges): Promise<SessionUpdated>;
  look(jpeg: Blob): Promise<Prediction | FrameOutcome>;
  on<Name extends keyof Events>(type: Name, listener: (event: Events[Name]) => void): () => void;
  on(type: "*", listener: (event: StreamEvent) => void): () => void;
  pause(): void;
  unpause(): void;
  reconnect(): void;
  close(): Promise<Totals | null>;
  [Symbol.asyncIterator](): AsyncIterableIterator<StreamEvent>;
}

export const SUBPROTOCOL: "timeconv.v1";
export function connect(url: string | URL, settings?: StreamSettings): Stream;
export function retryDelayMs(
  attempt: number,
  leastMs?: number,
  bounds?: { firstMs?: number; mostMs?: number },
  random?: () => number,
): number;
export function streamUrl(base: string | URL, options: Options): string;
export function stamped(jpeg: Jpeg, capturedUs: number): Blob | Uint8Array;
export function nowUs(): number;

// Pictures (browsers)

export type PictureSource = HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | ImageBitmap | VideoFrame;

/** Part of a frame in gray, from `left` and `top` of it on. */
export interface GrayPicture {
  pixels: Uint8Array;
  width: number;
  height: number;
  left: number;
  top: number;
}

/** Where in its frame the face lies that is sent alone; answers are told in pixels of that frame. */
export interface Place {
  box: number[];
  cropBox: number[];
  score: number;
  id: number;
}

export class JpegEncoder {
  constructor(bounds?: { longest?: number; quality?: number });
  encode(source: PictureSource): Promise<{ jpeg: Blob; width: number; height: number } | null>;
  draw(source: PictureSource): { width: number; height: number } | null;
  jpeg(): Promise<Blob | null>;
  gray(rectangle?: number[]): GrayPicture;
  drawGray(pixels: Uint8Array, side: number): void;
}

export interface FaceSettings {
  /** Side of the face's picture, pixels; 96. */
  side?: number;
  /** 1000 ms. */
  lookEveryMs?: number;
  /** Of whole frames, pixels; 640. */
  longest?: number;
  /** Of whole frames, 0..1; 0.85. */
  quality?: number;
  /** Of faces, 0..1; 0.9. */
  faceQuality?: number;
}

export class FaceSender {
  constructor(stream: Stream, settings?: FaceSettings);
  get counts(): { whole: number; faces: number; looks: number; lost: number; bytes: number };
  get sendsFace(): boolean;
  trySend(source: PictureSource, about?: { capturedUs?: number; data?: unknown }): Promise<SentFrame | null>;
  stop(): void;
}

export class Follower {
  constructor(picture: GrayPicture, box: number[], growth?: number);
  box: number[];
  likeness: number;
  follow(picture: GrayPicture): number[] | null;
}

export function fittedSize(width: number, height: number, longest?: number): { width: number; height: number };
export function cropSquare(box: number[], crop: { scale: number; dx: number; dy: number }): number[];
export function resample(picture: GrayPicture, square: number[], pixels: number): Float32Array;
export function iou(a: number[], b: number[]): number;

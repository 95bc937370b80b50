/** What a user of the types writes; compiled, never run. */

import { FaceSender, TimeConvError, connect, type Events, type StreamEvent } from "../../service/web/timeconv.js";

const stream = connect("http://127.0.0.1:8000", {
  key: async () => "tc_...",
  options: { freshness: "every", stride: 2, smoothing_ms: 300 },
  reconnect: { attempts: 5 },
});

stream.on("prediction", ({ message, frame, late }) => {
  for (const face of message.faces) {
    if (face.state === "ready") console.log(face.uncertain ? "not sure" : face.emotion, face.smoothed.happy, frame.data, late);
    else console.log(face.frames_needed);
    // @ts-expect-error a face whose window is filling has no emotion
    face.emotion.length;
  }
});
stream.on("frame", ({ outcome, message }) => {
  if (message.type === "frame") console.log(outcome, message.detail.frames_needed);
});
stream.on("state", ({ state, error, retryInMs }) => console.log(state, error?.code, error?.retryAfterMs, retryInMs));
// @ts-expect-error there is no such event
stream.on("predictions", () => {});
// @ts-expect-error options are those of the protocol
stream.update({ region: "face" });
// @ts-expect-error this one cannot be changed
stream.update({ timestamps: false });

export async function show(jpegs: Uint8Array[], video: HTMLVideoElement): Promise<number> {
  for (const jpeg of jpegs) await stream.send(jpeg, { capturedUs: 1, data: { any: "thing" } });
  if (stream.trySend(jpegs[0])?.seq === 0) await new FaceSender(stream, { side: 64 }).trySend(video);
  const seen: StreamEvent[] = [];
  try {
    for await (const event of stream) seen.push(event);
  } catch (error) {
    if (error instanceof TimeConvError && error.retryable) return -1;
  }
  const last: Events["closed"] | undefined = seen.find((event) => event.type === "closed");
  return last?.totals?.received ?? (await stream.close())?.received ?? 0;
}

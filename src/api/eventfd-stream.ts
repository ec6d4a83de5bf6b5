// Owns: an eventfd as server-sent events: one for each change that leaves a count. HTTP thread.
// Nothing is kept for a slow reader: it gets the count of the moment at which it reads.
import type { ApiDeps } from "./deps.js";
import type { Stream } from "./sse.js";
import { eventfdView } from "./views/eventfd.js";

type Look = Awaited<ReturnType<ApiDeps["services"]["eventfds"]["follow"]>>;

/** Between two looks at whether the reader is still there, milliseconds. */
const LOOK_MS = 15_000;

/** Runs until the eventfd is closed, the client goes or the service drains. */
export async function followEventfd(deps: ApiDeps, stream: Stream, id: string): Promise<void> {
  const { eventfds } = deps.services;
  let isOver = false;
  let end = (): void => {};
  const ended = new Promise<null>((resolve) => {
    end = () => {
      isOver = true;
      resolve(null);
    };
  });
  stream.onClose(end);
  const withdraw = deps.lifecycle.onDrain(end);
  deps.metrics.streams(1);
  try {
    stream.sendHeaders();
    let seen: number | null = null;
    while (!isOver) {
      const before: number | null = seen;
      const looked: Look | null = await Promise.race([eventfds.follow(id, before, LOOK_MS), ended]);
      if (looked === null) break;
      if (looked.eventfd === null) {
        await stream.send({ event: "eventfd.closed", data: { id } });
        break;
      }
      seen = looked.seen;
      if (seen === before || looked.eventfd.count === 0n) continue;
      const data = eventfdView(looked.eventfd);
      await Promise.race([stream.send({ event: "eventfd.readable", data }), ended]);
    }
  } finally {
    withdraw();
    deps.metrics.streams(-1);
  }
}

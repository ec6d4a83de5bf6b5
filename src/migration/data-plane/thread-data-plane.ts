// Owns: the page streams of this process as the HTTP thread sees them; the work is done by the
// data-plane thread. HTTP thread.
import { Worker } from "node:worker_threads";
import type { Log } from "../../base/log.js";
import {
  type DataPlane,
  type Demanding,
  type Incoming,
  type IncomingSpec,
  type Outgoing,
  type OutgoingSpec,
  PeerError,
  type Pushing,
  type PushTraffic,
  type Sequences,
} from "../ports.js";
import type { Traffic } from "../types.js";
import { Arrivals } from "../wire/arrivals.js";
import type { DataPlaneSettings, HostCalls, PlaneCalls } from "./calls.js";
import { type Handlers, PortRpc } from "./port-rpc.js";

const WORKER_FILE = new URL("./data-plane.worker.js", import.meta.url);
/** MiB of JavaScript heap; frames and memories are elsewhere. */
const HEAP_MIB_MAX = 512;

const NOTHING: Traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };

/** What a session has on this side of the door. */
interface Session {
  readonly sequences: Sequences;
  progress: (sent: Traffic) => void;
  pushing: (sent: PushTraffic) => void;
  received: Traffic;
}

/** The data plane, and where peers find it. */
export interface RunningDataPlane extends DataPlane {
  readonly url: string;
}

/**
 * Starts the data-plane thread and its listener.
 * @throws Error when it can't listen
 */
export async function startDataPlane(
  settings: DataPlaneSettings,
  log: Log,
  workerFile: URL = WORKER_FILE,
): Promise<RunningDataPlane> {
  const worker = new Worker(workerFile, {
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
  });
  const plane = new ThreadDataPlane(worker, log);
  try {
    await plane.listen(settings);
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  return plane;
}

class ThreadDataPlane implements RunningDataPlane {
  readonly #worker: Worker;
  readonly #thread: PortRpc<PlaneCalls, HostCalls>;
  readonly #sessions = new Map<number, Session>();
  readonly #exited: Promise<void>;
  #next = 0;
  #isClosing = false;
  url = "";

  constructor(worker: Worker, log: Log) {
    this.#worker = worker;
    this.#thread = new PortRpc(worker, this.#handlers());
    worker.on("error", (error) => {
      log.error({ room: "migration", reason: error.message }, "the data-plane thread failed");
    });
    this.#exited = new Promise((resolve) => {
      worker.once("exit", () => {
        const why = "The thread that carries pages has ended.";
        this.#thread.fail(new PeerError("data-plane-died", why, false));
        resolve();
      });
    });
  }

  async listen(settings: DataPlaneSettings): Promise<void> {
    const { url } = await this.#thread.call("listen", settings);
    this.url = url;
  }

  async open(spec: OutgoingSpec): Promise<Outgoing & Pushing> {
    const { sequences, ...plain } = spec;
    const id = this.#begin(sequences);
    await this.#orForget(id, this.#thread.call("open", { id, spec: plain }));
    const thread = this.#thread;
    return {
      send: (pages, progress, leave = 0) => {
        const session = this.#sessions.get(id);
        if (session !== undefined) session.progress = progress;
        return thread.call("send", { id, pages, leave });
      },
      endRound: () => thread.tell("endRound", { id }),
      discard: async (pages) => {
        await thread.call("discard", { id, pages });
      },
      push: (pages, progress) => {
        const session = this.#sessions.get(id);
        if (session !== undefined) session.pushing = progress;
        return thread.call("push", { id, pages });
      },
      limit: (bytesPerSecond) => thread.tell("limit", { id, bytesPerSecond }),
      digest: () => thread.call("digest", { id }),
      close: () => this.#end(id),
    };
  }

  async accept(spec: IncomingSpec): Promise<Incoming & Demanding> {
    const { sequences, ...rest } = spec;
    const id = this.#begin(sequences);
    const arrivals = new Arrivals(spec.wake);
    const plain = { ...rest, wake: arrivals.word };
    const accepted = await this.#orForget(id, this.#thread.call("accept", { id, spec: plain }));
    // Kept beyond its end: the last word comes with that.
    const session = this.#sessions.get(id);
    return {
      ...accepted,
      received: () => session?.received ?? NOTHING,
      digest: () => this.#thread.call("digest", { id }),
      request: (object, page) => this.#thread.tell("request", { id, object, page }),
      arrival: () => arrivals.next(),
      close: async () => {
        await this.#end(id);
        arrivals.end();
      },
    };
  }

  async close(): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true;
      // A thread that is gone has nothing left to close.
      await this.#thread.call("end", {}).catch(() => {});
      await this.#worker.terminate();
    }
    await this.#exited;
  }

  #begin(sequences: Sequences): number {
    const id = this.#next;
    this.#next += 1;
    this.#sessions.set(id, { sequences, progress: () => {}, pushing: () => {}, received: NOTHING });
    return id;
  }

  async #orForget<T>(id: number, call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      this.#sessions.delete(id);
      throw error;
    }
  }

  async #end(id: number): Promise<void> {
    if (!this.#sessions.has(id)) return;
    // Also of a thread that has died, whose sessions are gone with it.
    await this.#thread.call("close", { id }).catch(() => {});
    this.#sessions.delete(id);
  }

  #handlers(): Handlers<HostCalls> {
    const sequences = (id: number): Sequences => {
      const session = this.#sessions.get(id);
      if (session !== undefined) return session.sequences;
      throw new PeerError("stream-closed", "The page stream is closed.", false);
    };
    return {
      readSequences: ({ id, object, first, count }) => sequences(id).read(object, first, count),
      writeSequences: async ({ id, object, pages, sequences: numbers }) => {
        await sequences(id).write(object, pages, numbers);
        return null;
      },
      progress: ({ id, sent }) => {
        this.#sessions.get(id)?.progress(sent);
        return null;
      },
      pushing: ({ id, sent }) => {
        this.#sessions.get(id)?.pushing(sent);
        return null;
      },
      received: ({ id, received }) => {
        const session = this.#sessions.get(id);
        if (session !== undefined) session.received = received;
        return null;
      },
    };
  }
}

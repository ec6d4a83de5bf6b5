// Owns: calls from the HTTP thread, carried out and answered. Snapshot thread.
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { type RefusalData, toRefusal } from "../../base/errors.js";
import { LocalSnapshotIo, type SnapshotIo } from "./snapshot-io.js";

export interface IoCall {
  readonly id: number;
  readonly name: keyof SnapshotIo;
  readonly args: readonly unknown[];
}

export type IoAnswer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly refusal: RefusalData };

type Method = (...args: readonly unknown[]) => Promise<unknown>;

export function runSnapshotThread(): void {
  const port = parentPort;
  assert(port !== null, "the snapshot thread is a worker");
  const io = new LocalSnapshotIo();
  port.on("message", ({ id, name, args }: IoCall) => {
    const answer = (message: IoAnswer): void => port.postMessage(message);
    const method = io[name].bind(io) as unknown as Method;
    method(...args).then(
      (value) => answer({ id, value }),
      (error: unknown) => answer({ id, refusal: toRefusal(error) }),
    );
  });
}

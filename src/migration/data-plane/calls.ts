// Owns: what the HTTP thread and the data-plane thread ask of each other. Both threads.
import type { DirtyPages } from "../../runtime/index.js";
import type { IncomingSpec, OutgoingSpec, PushTraffic, SentRound } from "../ports.js";
import type { Traffic } from "../types.js";
import type { PresentWords } from "../wire/presence.js";

/** How the data plane listens, and how long it tries to reach another. */
export interface DataPlaneSettings {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** Null: clear text. PEM. */
  readonly tls: { readonly certificate: string; readonly key: string } | null;
  /** What peers are told to connect to; null: host and port. */
  readonly url: string | null;
  readonly giveUpMs: number;
  readonly stallMs: number;
  /** Connections at a time; more are refused. */
  readonly connectionsMax: number;
  /** Sessions at a time, of both directions together. */
  readonly sessionsMax: number;
}

/** `id` names an Outgoing or Incoming; both sides know it. */
interface Of {
  readonly id: number;
}

/** Name → [arguments, result]: what the data-plane thread answers. */
export type PlaneCalls = {
  listen: [DataPlaneSettings, { url: string }];
  open: [Of & { spec: Omit<OutgoingSpec, "sequences"> }, null];
  send: [Of & { pages: DirtyPages | null; leave: number }, SentRound];
  endRound: [Of, null];
  discard: [Of & { pages: DirtyPages }, null];
  push: [Of & { pages: DirtyPages | null }, PushTraffic];
  limit: [Of & { bytesPerSecond: number }, null];
  accept: [
    Of & { spec: Omit<IncomingSpec, "sequences"> },
    { url: string; secret: string; present: PresentWords; requests: SharedArrayBuffer },
  ];
  request: [Of & { object: number; page: number }, null];
  digest: [Of, string];
  close: [Of, null];
  end: [Record<string, never>, null];
};

/** Name → [arguments, result]: what the HTTP thread answers. */
export type HostCalls = {
  readSequences: [Of & { object: number; first: number; count: number }, Uint32Array];
  writeSequences: [Of & { object: number; pages: Uint32Array; sequences: Uint32Array }, null];
  progress: [Of & { sent: Traffic }, null];
  pushing: [Of & { sent: PushTraffic }, null];
  received: [Of & { received: Traffic }, null];
};

// Owns: the engine's own part of what goes with the VM's state. Any thread.
import type { Saved } from "../base/saved.js";
import { decodeSaved } from "../base/saved-codec.js";
import { type MovedEventfd, PeerError } from "./ports.js";

const KIND = "migration";
const VERSION = 1;
/** And pages follow. */
const VERSION_POSTCOPY = 2;

const VERSIONS: ReadonlySet<number> = new Set([VERSION, VERSION_POSTCOPY]);

export interface EngineState {
  readonly wasRunning: boolean;
  readonly eventfds: readonly MovedEventfd[];
  /** Post-copy: pages follow. */
  readonly lacksPages: boolean;
}

export function engineState(state: EngineState): Saved {
  const eventfds = state.eventfds.map(({ local, name, count }) => ({ local, name, count }));
  const { wasRunning, lacksPages } = state;
  // Who doesn't know of post-copy reads the state of any other VM.
  const pages = lacksPages ? { lacksPages } : {};
  const version = lacksPages ? VERSION_POSTCOPY : VERSION;
  return { kind: KIND, version, data: { wasRunning, eventfds, ...pages } };
}

export interface ArrivedState extends EngineState {
  /** The VM's. */
  readonly parts: readonly Saved[];
}

const refused = (detail: string): PeerError => new PeerError("state-mismatch", detail, false);

function decoded(bytes: Uint8Array): readonly Saved[] {
  try {
    return decodeSaved(bytes);
  } catch (error) {
    throw refused(`The state can't be read: ${error instanceof Error ? error.message : "?"}`);
  }
}

function isEventfd(value: unknown): value is MovedEventfd {
  const { local, name, count } = (value ?? {}) as Partial<Record<keyof MovedEventfd, unknown>>;
  const isNamed = name === null || typeof name === "string";
  return Number.isSafeInteger(local) && isNamed && typeof count === "bigint" && count >= 0n;
}

function own(data: unknown): EngineState {
  const fields = (data ?? {}) as Partial<Record<keyof EngineState, unknown>>;
  const { wasRunning, eventfds, lacksPages = false } = fields;
  if (typeof wasRunning !== "boolean") throw refused("The state lacks whether the VM ran.");
  if (!Array.isArray(eventfds) || !eventfds.every(isEventfd)) {
    throw refused("The state's eventfds can't be read.");
  }
  if (typeof lacksPages !== "boolean") throw refused("The state lacks whether pages follow.");
  return { wasRunning, eventfds, lacksPages };
}

/** @throws PeerError "state-mismatch" */
export function arrivedState(bytes: Uint8Array): ArrivedState {
  const all = decoded(bytes);
  const found = all.filter(({ kind }) => kind === KIND);
  const [part] = found;
  if (found.length !== 1 || part === undefined || !VERSIONS.has(part.version)) {
    throw refused(`The state must have one part "${KIND}" of version ${[...VERSIONS].join(", ")}.`);
  }
  const parts = all.filter((saved) => saved !== part);
  return { parts, ...own(part.data) };
}

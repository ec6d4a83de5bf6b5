// Owns: the engine's own part of what goes with the VM's state. Any thread.
import { U64_MAX } from "../base/hex.js";
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
  const eventfds = state.eventfds.map(({ local, name, count, isSemaphore }) => {
    return { local, name, count, isSemaphore };
  });
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

/** @returns null: it is none */
function eventfdOf(value: unknown): MovedEventfd | null {
  const fields = (value ?? {}) as Partial<Record<keyof MovedEventfd, unknown>>;
  // Older sources don't tell of semaphores.
  const { local, name, count, isSemaphore = false } = fields;
  if (typeof local !== "number" || !Number.isSafeInteger(local) || local < 0) return null;
  if (name !== null && typeof name !== "string") return null;
  if (typeof count !== "bigint" || count < 0n || count > U64_MAX) return null;
  return typeof isSemaphore === "boolean" ? { local, name, count, isSemaphore } : null;
}

/** @returns null: they can't be read */
function eventfdsOf(value: unknown): readonly MovedEventfd[] | null {
  if (!Array.isArray(value)) return null;
  const found = value.flatMap((one) => eventfdOf(one) ?? []);
  return found.length === value.length ? found : null;
}

function own(data: unknown): EngineState {
  const fields = (data ?? {}) as Partial<Record<keyof EngineState, unknown>>;
  const { wasRunning, lacksPages = false } = fields;
  const eventfds = eventfdsOf(fields.eventfds);
  if (typeof wasRunning !== "boolean") throw refused("The state lacks whether the VM ran.");
  if (eventfds === null) throw refused("The state's eventfds can't be read.");
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

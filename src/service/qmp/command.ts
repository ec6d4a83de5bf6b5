// Owns: what one of QMP's commands is, and what it may use. HTTP thread.
import type { Clock } from "../../base/clock.js";
import type { DirtyLimit } from "./dirty-limit.js";
import type { DirtyRate } from "./dirty-rate.js";
import type { Json, JsonObject } from "./json.js";
import type { MigrationSettings } from "./migration-settings.js";
import type { QmpVm } from "./ports.js";
import type { ObjectOf, QapiType } from "./qapi.js";

/** One VM's face; its clients share it. */
export interface Face {
  readonly vm: QmpVm;
  readonly clock: Clock;
  /** Of this build: major, minor, micro. */
  readonly version: readonly [number, number, number];
  readonly settings: MigrationSettings;
  readonly dirtyRate: DirtyRate;
  readonly dirtyLimit: DirtyLimit;
  /** The VM is about to end by a client's wish. */
  quits(): void;
}

export interface Command {
  readonly args: ObjectOf;
  /** Absent: an empty object. */
  readonly returns?: QapiType;
  readonly features?: readonly string[];
  /** Arguments that there are elsewhere: why they aren't here. */
  readonly explains?: Readonly<Record<string, string>>;
  /** @throws QmpError, ServiceError, KvmError */
  readonly run: (face: Face, args: JsonObject) => Promise<Json | undefined>;
}

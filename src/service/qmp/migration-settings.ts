// Owns: QMP's migration capabilities and parameters: what a client has set, what QEMU's names mean
// here, and what the next session is started with. HTTP thread.
// @source QEMU 7.2 qapi/migration.json: MigrationCapability, MigrationParameters
import {
  DEFAULT_PARAMETERS,
  type LiveParameters,
  type MigrationParameters,
} from "../../migration/index.js";
import type { JsonObject } from "./json.js";
import { arrayOf, BOOL, INT, object, oneOf, QmpError } from "./qapi.js";

/**
 * The first turns on events, postcopy-ram allows migrate-start-postcopy. The last two are so
 * anyhow: both sides talk always, and a VM keeps its uuid. The others are parameters of ours.
 */
const NAMES = [
  ...(["events", "postcopy-ram", "auto-converge", "pause-before-switchover"] as const),
  ...(["multifd", "xbzrle", "compress", "return-path", "validate-uuid"] as const),
] as const;

export type Capability = (typeof NAMES)[number];

/** The same pages in two ways: only one of them can be. */
const ENCODINGS: readonly Capability[] = ["xbzrle", "compress"];

const CAPABILITY_STATUS = object({ capability: oneOf(...NAMES), state: BOOL });
export const CAPABILITY_LIST = arrayOf(CAPABILITY_STATUS);

interface Row {
  readonly min: bigint;
  readonly max: bigint;
  readonly unit: string;
  readonly from: (parameters: MigrationParameters) => number;
  readonly into: (value: number) => Partial<MigrationParameters>;
  /** It may change while a migration runs. */
  readonly isLive: boolean;
}

const U64_MAX = 2n ** 64n - 1n;
const PERCENT = { min: 1n, max: 99n, unit: "percent", isLive: true } as const;

/** QEMU's parameters that mean something here. */
const PARAMETERS: Readonly<Record<string, Row>> = {
  "max-bandwidth": {
    ...{ min: 0n, max: U64_MAX, unit: "bytes a second; 0 is without limit", isLive: true },
    from: ({ bandwidthBytesPerSecond }) => bandwidthBytesPerSecond,
    into: (value) => ({ bandwidthBytesPerSecond: value }),
  },
  "max-postcopy-bandwidth": {
    ...{ min: 0n, max: U64_MAX, unit: "bytes a second; 0 is without limit", isLive: true },
    from: ({ postcopyBandwidthBytesPerSecond }) => postcopyBandwidthBytesPerSecond,
    into: (value) => ({ postcopyBandwidthBytesPerSecond: value }),
  },
  "downtime-limit": {
    ...{ min: 0n, max: 2_000_000n, unit: "milliseconds", isLive: true },
    from: ({ downtimeMs }) => downtimeMs,
    into: (value) => ({ downtimeMs: value }),
  },
  "cpu-throttle-initial": {
    ...PERCENT,
    from: ({ throttleInitial }) => throttleInitial,
    into: (value) => ({ throttleInitial: value }),
  },
  "cpu-throttle-increment": {
    ...PERCENT,
    from: ({ throttleIncrement }) => throttleIncrement,
    into: (value) => ({ throttleIncrement: value }),
  },
  "max-cpu-throttle": {
    ...PERCENT,
    from: ({ throttleMax }) => throttleMax,
    into: (value) => ({ throttleMax: value }),
  },
  "xbzrle-cache-size": {
    ...{ min: 2n ** 16n, max: 2n ** 32n, unit: "bytes", isLive: false },
    from: ({ deltaCacheBytes }) => deltaCacheBytes,
    into: (value) => ({ deltaCacheBytes: value }),
  },
  "multifd-channels": {
    ...{ min: 1n, max: 8n, unit: "connections", isLive: false },
    from: () => MULTIFD_CHANNELS,
    into: (value) => ({ channels: value }),
  },
};

/** As QEMU's default. */
const MULTIFD_CHANNELS = 2;

export const PARAMETER_SET = object(
  Object.fromEntries(Object.keys(PARAMETERS).map((name) => [`${name}?`, INT])),
);

/** Of one VM; all of its clients share them. */
export class MigrationSettings {
  readonly #on = new Set<Capability>();
  readonly #values = new Map<string, bigint>();

  has(capability: Capability): boolean {
    return this.#on.has(capability);
  }

  /** @throws QmpError; then nothing has changed */
  setCapabilities(
    wanted: readonly { readonly capability: Capability; readonly state: boolean }[],
  ): void {
    const on = new Set(this.#on);
    for (const { capability, state } of wanted) {
      if (state) on.add(capability);
      else on.delete(capability);
    }
    if (ENCODINGS.every((name) => on.has(name))) {
      throw new QmpError("Pages can be sent by xbzrle or by compress, not by both.");
    }
    this.#on.clear();
    for (const name of on) this.#on.add(name);
  }

  capabilities(): readonly JsonObject[] {
    return NAMES.map((capability) => ({ capability, state: this.has(capability) }));
  }

  /**
   * @returns what changes of a session that runs
   * @throws QmpError; then nothing has changed
   */
  setParameters(given: JsonObject): Partial<LiveParameters> {
    const wanted = new Map<string, bigint>();
    for (const [name, { min, max, unit }] of Object.entries(PARAMETERS)) {
      const value = given[name];
      if (typeof value !== "number" && typeof value !== "bigint") continue;
      const exact = BigInt(value);
      if (exact < min || exact > max) {
        throw new QmpError(`'${name}' must be from ${min} to ${max}: ${unit}.`);
      }
      wanted.set(name, exact);
    }
    let live: Partial<LiveParameters> = {};
    for (const [name, value] of wanted) {
      this.#values.set(name, value);
      const row = PARAMETERS[name];
      if (row?.isLive === true) live = { ...live, ...row.into(inRange(value)) };
    }
    return live;
  }

  /** @param session parameters of one that runs: they may have been set by others */
  parameters(session: MigrationParameters | null): JsonObject {
    const entries = Object.entries(PARAMETERS).map(([name, row]) => {
      const own = this.#values.get(name);
      const real = session === null || !row.isLive ? null : row.from(session);
      const isOwn = own !== undefined && (real === null || inRange(own) === real);
      return [name, isOwn ? own : (real ?? row.from(DEFAULT_PARAMETERS))] as const;
    });
    return Object.fromEntries(entries);
  }

  /** What the next session is started with. */
  request(): Partial<MigrationParameters> {
    let request: Partial<MigrationParameters> = {
      autoConverge: this.has("auto-converge"),
      pauseBeforeSwitchover: this.has("pause-before-switchover"),
      compression: this.has("xbzrle") ? "delta" : this.has("compress") ? "deflate" : "none",
    };
    for (const [name, value] of this.#values) {
      request = { ...request, ...PARAMETERS[name]?.into(inRange(value)) };
    }
    const channels = this.has("multifd") ? (request.channels ?? MULTIFD_CHANNELS) : 1;
    return { ...request, channels };
  }
}

/** More bytes a second than a number holds exactly are as good as no limit. */
function inRange(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? 0 : Number(value);
}

// Owns: options that commands share, checked. CLI process.
import { Failure } from "./failure.js";
import type { HostOptions } from "./host.js";

/** Of commands that look at VMs that are there. */
export const SERVER_DEFAULT = "http://127.0.0.1:8080";

export const text = { type: "string" } as const;
export const flag = { type: "boolean", default: false } as const;
export const HOST_OPTIONS = {
  server: text,
  "token-file": text,
  help: { ...flag, short: "h" },
} as const;

/** Makes the failure of whoever is called wrongly. */
export type Usage = (why: string) => Failure;

export function usageOf(says: string): Usage {
  return (why) => new Failure(`${why}\n${says}`);
}

export function hostOf(
  values: { readonly server?: string | undefined; readonly "token-file"?: string | undefined },
  otherwise: string | null,
  usage: Usage,
): HostOptions {
  const server = values.server ?? otherwise;
  if (server !== null && !/^https?:\/\//.test(server)) {
    throw usage(`--server takes http://HOST:PORT, not ${server}.`);
  }
  return { server, tokenFile: values["token-file"] ?? null };
}

/** @returns `otherwise` where nothing was given */
export function positive(
  name: string,
  given: string | undefined,
  otherwise: number,
  usage: Usage,
): number {
  if (given === undefined) return otherwise;
  if (/^[0-9]{1,9}$/.test(given) && Number(given) > 0) return Number(given);
  throw usage(`--${name} takes a positive integer, not ${given}.`);
}

/** A whole number that is no option. */
export function whole(name: string, given: string | undefined, usage: Usage): number {
  if (given !== undefined && /^[0-9]{1,10}$/.test(given)) return Number(given);
  throw usage(`${name} is a whole number, not ${given ?? "absent"}.`);
}

/** A VM's settings, as GET /v1/dirty-settings has them. */
export type Settings = Readonly<Record<string, string | number | boolean>>;

/** Of KEY=VALUE each. Numbers and true or false are such; the host knows what a setting may be. */
export function settingsOf(given: readonly string[], usage: Usage): Settings {
  const pairs = given.map((pair) => {
    const match = /^([A-Za-z0-9.]+)=(\S+)$/.exec(pair);
    if (match === null) throw usage(`--set takes KEY=VALUE, not ${pair}.`);
    const [, key = "", value = ""] = match;
    if (value === "true" || value === "false") return [key, value === "true"] as const;
    return [key, /^-?[0-9]{1,12}$/.test(value) ? Number(value) : value] as const;
  });
  return Object.fromEntries(pairs);
}

export function clockOf(given: string, usage: Usage): "wall" | "virtual" {
  if (given === "wall" || given === "virtual") return given;
  throw usage("--clock is wall or virtual.");
}

/** Versions of the interrupt controller by what is typed for them. */
const GICS = { none: null, "2": 2, "3": 3, "5": 5 } as const;

/** @returns null for a machine without an interrupt controller */
export function gicOf(given: string, usage: Usage): 2 | 3 | 5 | null {
  const found = Object.entries(GICS).find(([name]) => name === given);
  if (found === undefined) throw usage("--gic is 2, 3, 5 or none.");
  return found[1];
}

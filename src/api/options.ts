// Owns: what the HTTP face needs to know from outside; app.ts fills it from the configuration.
// HTTP thread.
import type { TokenTable } from "./auth.js";

export interface ApiOptions {
  /** package.json's version. */
  readonly version: string;
  /** null: no authentication (loopback). */
  readonly tokens: TokenTable | null;
  /** Requests per minute of one client; 0 means without limit. Heavy routes get a tenth. */
  readonly rateLimitPerMinute: number;
  /** Mean event-loop delay over a second above which requests are shed; 0 means never. */
  readonly overloadDelayMs: number;
  /** Bytes of a JSON body at most. */
  readonly jsonBodyBytes: number;
  /** Bytes of an octet-stream body and of one memory answer at most. */
  readonly binaryBodyBytes: number;
  /** Seed of a VM that names none. */
  readonly defaultSeed: bigint;
  /** Certificate and key, PEM; null or absent: plain HTTP. */
  readonly tls?: { readonly certificate: string; readonly key: string } | null;
  /** A comment line goes to every event stream this often. */
  readonly heartbeatMs: number;
}

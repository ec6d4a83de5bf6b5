// Owns: the two kinds of refusal that may leave a room (DESIGN 16). Runs on any thread.
import { ERRNO, type ErrnoName } from "./errno.table.js";

/** More members of a refusal's problem. */
type Extensions = Readonly<Record<string, unknown>>;

/**
 * A refused KVM request: what an ioctl would return as -1 with errno.
 * `detail` is one sentence that tells the caller what to do. `code` is a stable kebab-case word for
 * machines, for example "kvm-errno" or "vm-replaying".
 */
export class KvmError extends Error {
  override readonly name = "KvmError";
  readonly errno: ErrnoName;
  readonly ioctl: string;
  readonly code: string;
  readonly extensions: Extensions;

  constructor(
    errno: ErrnoName,
    ioctl: string,
    detail: string,
    code = "kvm-errno",
    extensions: Extensions = {},
  ) {
    super(detail);
    this.errno = errno;
    this.ioctl = ioctl;
    this.code = code;
    this.extensions = extensions;
  }

  /** The positive Linux number. */
  get errnoValue(): number {
    return ERRNO[this.errno];
  }
}

/**
 * A refusal that is not KVM's: the service's own rules (unknown resource, precondition, limit).
 * `code` selects the problem row in api/problem.table.ts.
 */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: string;
  readonly extensions: Extensions;

  constructor(code: string, detail: string, extensions: Extensions = {}) {
    super(detail);
    this.code = code;
    this.extensions = extensions;
  }
}

/** Plain data form of a refusal, for crossing a thread. */
export interface RefusalData {
  readonly kind: "kvm" | "service" | "bug";
  readonly detail: string;
  readonly code: string;
  readonly errno?: ErrnoName;
  readonly ioctl?: string;
  readonly extensions?: Extensions;
}

/** Flattens any thrown value for a message port. Bugs lose their stack to the log, not the wire. */
export function toRefusal(error: unknown): RefusalData {
  if (error instanceof KvmError) {
    return {
      kind: "kvm",
      detail: error.message,
      code: error.code,
      errno: error.errno,
      ioctl: error.ioctl,
      extensions: error.extensions,
    };
  }
  if (error instanceof ServiceError) {
    return {
      kind: "service",
      detail: error.message,
      code: error.code,
      extensions: error.extensions,
    };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { kind: "bug", detail: text, code: "internal" };
}

/** Rebuilds the error on the other side. */
export function fromRefusal(data: RefusalData): Error {
  if (data.kind === "kvm" && data.errno !== undefined) {
    return new KvmError(data.errno, data.ioctl ?? "", data.detail, data.code, data.extensions);
  }
  if (data.kind === "service") {
    return new ServiceError(data.code, data.detail, data.extensions ?? {});
  }
  return new Error(data.detail);
}

// Owns: what went wrong, as the client is told: which side, during what, why. Any thread.
import { AssertionFailed } from "../base/assert.js";
import { KvmError, ServiceError } from "../base/errors.js";
import { PeerError } from "./ports.js";
import type { Failure, MigrationState } from "./types.js";

/** The session ends because somebody, or its own time limit, wants it. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  readonly code: "cancelled" | "timeout" | "resolved";

  constructor(code: Stopped["code"], detail: string) {
    super(detail);
    this.code = code;
  }
}

/** A refusal of the engine's own. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
  readonly side: Failure["side"];
  readonly code: string;

  constructor(side: Failure["side"], code: string, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.side = side;
    this.code = code;
  }
}

function sideAndCode(error: unknown, here: Failure["side"]): Pick<Failure, "side" | "code"> {
  if (error instanceof Stopped) {
    return { side: error.code === "timeout" ? here : "operator", code: error.code };
  }
  if (error instanceof MigrationError) return { side: error.side, code: error.code };
  if (error instanceof PeerError) {
    const there = here === "source" ? "target" : "source";
    return { side: error.isAnswer ? there : "wire", code: error.code };
  }
  if (error instanceof KvmError || error instanceof ServiceError) {
    return { side: here, code: error.code };
  }
  if (error instanceof AssertionFailed) return { side: here, code: "assertion-failed" };
  return { side: here, code: "internal" };
}

const CAUSES_MAX = 8;

function causesOf(error: unknown): string[] {
  const causes: string[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  while (cause instanceof Error && causes.length < CAUSES_MAX) {
    causes.push(cause.message);
    cause = cause.cause;
  }
  return causes;
}

/** @param here the side that this process is */
export function failureOf(
  error: unknown,
  during: MigrationState,
  here: "source" | "target",
): Failure {
  const detail = error instanceof Error ? error.message : String(error);
  return { ...sideAndCode(error, here), during, detail, causes: causesOf(error) };
}

/** Whether the same call may go well a moment later. */
export function isTransient(error: unknown): boolean {
  if (error instanceof PeerError) return error.isTransient;
  return error instanceof ServiceError && error.code === "overloaded";
}

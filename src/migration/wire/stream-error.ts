// Owns: why bytes of a page stream are refused. Any thread.
import { PeerError } from "../ports.js";

/** `isFinal`: sending the same again can't help. Else the channel is resumed at its last frame. */
export class StreamError extends Error {
  override readonly name = "StreamError";
  readonly code: string;
  readonly isFinal: boolean;

  constructor(code: string, detail: string, isFinal: boolean) {
    super(detail);
    this.code = code;
    this.isFinal = isFinal;
  }
}

/** What trying again doesn't change: the target's refusal, or ours of who answers there. */
export function finalOf(error: Error): PeerError | null {
  if (error instanceof PeerError) return error.isTransient ? null : error;
  const isFinal = error instanceof StreamError && error.isFinal;
  return isFinal ? new PeerError(error.code, error.message, false) : null;
}

// Owns: why bytes of a page stream are refused. Any thread.

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

// Owns: how the command line fails: one sentence and an exit code. CLI process.
//   0 the guest says so, or it powered off without a word · n the guest's own code
//   1 a scenario came out otherwise than it is told
//   124 time is up · 125 the tool, the host or the guest failed · 130 interrupted

export const EXIT = { ok: 0, differs: 1, timeout: 124, failed: 125, interrupted: 130 } as const;

/** A command that can't go on; its message is for people. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly code: number;

  constructor(message: string, code: number = EXIT.failed) {
    super(message);
    this.code = code;
  }
}

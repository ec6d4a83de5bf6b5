// Owns: the commands of a board as types: name → arguments and result. Any thread.

/**
 * created: never switched on. shutdown: off by the guest or by power-off. crashed: the guest did
 * what nobody can emulate.
 */
export type BoardState = "created" | "running" | "paused" | "shutdown" | "crashed";

/**
 * "flat": a raw binary that begins with its first instruction. "linux": an arm64 Image. "elf": an
 * AArch64 program. "firmware": what flash holds, and the image is the firmware's affair.
 */
export type ImageFormat = "flat" | "linux" | "elf" | "firmware";

export type BoardAction = "start" | "pause" | "resume" | "reset" | "power-off";

export interface BoardView {
  readonly state: BoardState;
  /** One sentence on how it came to this state; null where the state says it all. */
  readonly reason: string | null;
  /** What the image was taken for; null before it is loaded. */
  readonly format: ImageFormat | null;
  /** Guest-physical addresses of the first instruction and of the device tree. */
  readonly entry: bigint | null;
  readonly dtb: bigint | null;
  readonly initrd: { readonly start: bigint; readonly end: bigint } | null;
  readonly resets: number;
  readonly console: {
    readonly oldest: number;
    readonly end: number;
    /** Bytes typed that the guest has not taken. */
    readonly typed: number;
  };
  /** Accesses that no device of the board took: loads gave zeros, stores went nowhere. */
  readonly unassigned: { readonly count: number; readonly last: bigint | null };
}

/** What a board loads. */
export interface BoardImages {
  /** null: the firmware finds what to start. */
  readonly image: Uint8Array | null;
  readonly initrd: Uint8Array | null;
  readonly firmware?: Uint8Array | null;
  readonly disk?: Uint8Array | null;
  /** Nothing is put into RAM now: its content comes from another host, or a snapshot. */
  readonly leaveRam?: boolean;
}

/** News of a board: a line of the VM's history, or that its console may have more to read. */
export type BoardNews =
  | {
      readonly kind: "board";
      readonly event: "running" | "paused" | "shutdown" | "reset" | "crashed";
      readonly reason: string | null;
    }
  | { readonly kind: "console" };

/** How a stretch of virtual time went. */
export interface BoardStretch {
  readonly state: BoardState;
  readonly reason: string | null;
  readonly ranNs: bigint;
  /** It ended early: rings have to be reset. */
  readonly ringFull: boolean;
  /** First pages of deferred CLEARs that ended meanwhile. */
  readonly cleaned: readonly bigint[];
  /** In the board's life. */
  readonly resets: number;
}

/** Name → [arguments, result]; ServiceError "no-board" on a VM without one. */
export interface BoardCommands {
  /** Builds memory, vCPUs and device tree and loads the image; once, before all others. */
  loadBoard: [BoardImages, BoardView];
  describeBoard: [Record<string, never>, BoardView];
  /** Runs a board that doesn't run, for so long or until it stops. ServiceError "board-state". */
  runBoard: [{ ns: bigint }, BoardStretch];
  /** Whether the board's RAM logs dirty pages; its owner alone may change its slot. */
  logBoard: [{ on: boolean }, null];
  /** ServiceError "board-state" where the action makes no sense. */
  boardAction: [{ action: BoardAction }, BoardView];
  /** Bytes from an absolute offset; from the oldest kept one where that is lost. */
  readConsole: [
    { offset: number; limit: number },
    { offset: number; bytes: Uint8Array; oldest: number; end: number },
  ];
  /** ServiceError "console-full" with too much typed and not taken. */
  typeConsole: [{ bytes: Uint8Array }, { accepted: number; typed: number }];
}

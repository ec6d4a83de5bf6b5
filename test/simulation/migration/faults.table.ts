// Owns: what may go wrong in a simulated migration. Data only.

export const FAULTS = [
  { kind: "request-lost", what: "a call of the peer gets lost" },
  { kind: "reply-lost", what: "the peer's answer gets lost" },
  { kind: "request-duplicated", what: "a call arrives twice, the second time much later" },
  { kind: "request-delayed", what: "a call arrives after its caller has given it up" },
  { kind: "network-cut", what: "nothing gets through for a while" },
  { kind: "frame-lost", what: "a frame of pages must be sent again" },
  { kind: "frame-duplicated", what: "a frame arrives again later" },
  { kind: "stream-dead", what: "the page stream can't be connected again" },
  { kind: "journal-fails", what: "one write of the journal fails" },
  { kind: "journal-full", what: "writes of the journal fail for a while" },
  { kind: "crash-before-write", what: "the host dies before a write of its journal" },
  { kind: "crash-after-write", what: "the host dies after a write, before it is told of it" },
  { kind: "vm-refuses", what: "a command of the VM is refused" },
  { kind: "source-crash", what: "the source dies" },
  { kind: "target-crash", what: "the target dies" },
  { kind: "cancel", what: "the client cancels" },
] as const;

export type FaultKind = (typeof FAULTS)[number]["kind"];
export const FAULT_KINDS: readonly FaultKind[] = FAULTS.map(({ kind }) => kind);

// Owns: migration's front door: sessions over ports that the service implements. HTTP thread, or
// inline.
export { startDataPlane } from "./data-plane/thread-data-plane.js";
export { SILENCE_MS } from "./limits.js";
export { connectTls } from "./peer-tls.js";
export type * from "./ports.js";
export { PeerError, SESSION_ABORTED, SESSION_READY } from "./ports.js";
export { whyNot } from "./preflight.js";
export type { Kept, ResumeOutcome, ResumeSpec } from "./resume.js";
export { EndedTarget, ResumedSource, resumeTarget } from "./resume.js";
export { verdictOf } from "./settle.js";
export { SourceSession, type SourceSpec } from "./source.js";
export { TargetSession, type TargetSpec } from "./target.js";
export * from "./types.js";
export { STREAM_VERSIONS } from "./wire/frame.js";

// Owns: the engine as this build has it. HTTP thread.
import {
  ResumedSource,
  resumeTarget,
  SourceSession,
  TargetSession,
} from "../../migration/index.js";
import type { Engine } from "./engine-port.js";

export const ENGINE: Engine = {
  supportsPostcopy: true,
  source: (parts) => new SourceSession(parts),
  target: (parts) => new TargetSession(parts),
  resumeSource: (parts, peer) => new ResumedSource(parts, peer),
  resumeTarget,
};

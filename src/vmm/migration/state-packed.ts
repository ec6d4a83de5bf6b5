// Owns: a state's parts as one part of bytes: made and read by the thread that has the VM, which
// has practised it, while the one that passes it on has others to serve. VM thread.
import type { Saved } from "../../base/saved.js";
import { decodeSaved, encodeSaved } from "../../base/saved-codec.js";
import { mismatch } from "./state-part.js";

const KIND = "packed";
const VERSION = 1;

export function packed(parts: readonly Saved[]): readonly Saved[] {
  return [{ kind: KIND, version: VERSION, data: encodeSaved(parts) }];
}

/**
 * The same parts where they are not packed.
 * @throws ServiceError "state-mismatch"
 */
export function unpacked(parts: readonly Saved[]): readonly Saved[] {
  const [part] = parts;
  if (part?.kind !== KIND || parts.length > 1) return parts;
  const { version, data } = part;
  if (version !== VERSION) throw mismatch(KIND, `version ${VERSION} is known, not ${version}`);
  if (!(data instanceof Uint8Array)) throw mismatch(KIND, "it has no bytes");
  return decodeSaved(data);
}

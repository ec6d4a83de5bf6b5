// Owns: what a source tells of a small VM that has no memory. Test process.
import type { Passport } from "../../src/service/index.js";
import { DEFINITION } from "./services.js";

/** @param session the source's name for the migration */
export function passport(more: Partial<Passport["vm"]> = {}, session = "mig_far"): Passport {
  const definition = { ...DEFINITION, type: "0x0", seed: "0x1" };
  const shape = { capabilities: [], memoryObjects: [], guestMemfds: [], memslots: [], vcpus: [] };
  return {
    version: 1,
    streams: [1],
    source: { instance: "b", session, url: "" },
    vm: {
      ...{ uuid: "u-1", name: "guest", labels: { a: "b" }, definition, shape, images: [] },
      ...more,
    },
    memory: [],
  };
}

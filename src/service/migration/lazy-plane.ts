// Owns: a data plane that begins when the first VM moves: most hosts never need its thread.
// HTTP thread.
import { type DataPlane, PeerError } from "../../migration/index.js";

/** @param begin may be called again after it failed */
export function lazyPlane(begin: () => Promise<DataPlane>): DataPlane {
  let begun: Promise<DataPlane> | null = null;
  let isClosed = false;
  const plane = async (): Promise<DataPlane> => {
    if (isClosed) throw new PeerError("data-plane-closed", "The service is ending.", false);
    const beginning = begun ?? begin();
    begun = beginning;
    try {
      return await beginning;
    } catch (error) {
      begun = null;
      const why = (error as Error).message;
      throw new PeerError("data-plane-failed", `The data plane doesn't start: ${why}`, false);
    }
  };
  return {
    open: async (spec) => (await plane()).open(spec),
    accept: async (spec) => (await plane()).accept(spec),
    close: async () => {
      isClosed = true;
      await (await begun?.catch(() => null))?.close();
    },
  };
}

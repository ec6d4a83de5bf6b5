// Owns: GDB stubs of the fake services: records in a map, no sockets.
import { ServiceError } from "../../src/base/errors.js";
import type { GdbResource, Services } from "../../src/service/index.js";

/** @param requireVm throws for an unknown VM */
export function fakeGdb(requireVm: (id: string) => unknown): Services["gdb"] {
  const stubs = new Map<string, GdbResource>();
  const get = (vmId: string): GdbResource => {
    requireVm(vmId);
    const stub = stubs.get(vmId);
    if (stub === undefined) throw new ServiceError("gdb-not-found", "There is none.");
    return stub;
  };
  return {
    open: async (vmId, port) => {
      requireVm(vmId);
      const path = port === null ? `/tmp/${vmId}.sock` : null;
      const counts = { connections: 0, refused: 0, packets: 0, damaged: 0, stops: 0 };
      const stub = { vmId, path, port, attached: false, counts };
      stubs.set(vmId, stub);
      return stub;
    },
    get: async (vmId) => get(vmId),
    close: async (vmId) => {
      get(vmId);
      stubs.delete(vmId);
    },
  };
}

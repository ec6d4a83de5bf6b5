// Owns: QMP sockets of the fake services: records in a map, no sockets.
import { ServiceError } from "../../src/base/errors.js";
import type { QmpResource, Services } from "../../src/service/index.js";

/** @param requireVm throws for an unknown VM */
export function fakeQmpSockets(requireVm: (id: string) => unknown): Services["qmp"] {
  const sockets = new Map<string, QmpResource>();
  const get = (vmId: string): QmpResource => {
    requireVm(vmId);
    const socket = sockets.get(vmId);
    if (socket === undefined) throw new ServiceError("qmp-not-found", "There is none.");
    return socket;
  };
  return {
    open: async (vmId, port) => {
      requireVm(vmId);
      const path = port === null ? `/tmp/${vmId}.sock` : null;
      const counts = { connections: 0, refused: 0, commands: 0, errors: 0, events: 0, cut: 0 };
      const socket = { vmId, path, port, clients: 0, counts };
      sockets.set(vmId, socket);
      return socket;
    },
    get: async (vmId) => get(vmId),
    close: async (vmId) => {
      get(vmId);
      sockets.delete(vmId);
    },
  };
}

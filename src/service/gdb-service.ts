// Owns: GDB stubs of VMs: opening, looking at, closing. HTTP thread.
import { join } from "node:path";
import { ServiceError } from "../base/errors.js";
import type { Log } from "../base/log.js";
import type { VmHandle } from "../runtime/index.js";
import { BoardRunControl } from "./gdb/board-control.js";
import { GdbServer } from "./gdb/gdb-server.js";
import { GuestAccess } from "./gdb/guest-access.js";
import { ClientRunControl } from "./gdb/run-control.js";
import type { RunControl } from "./gdb/target.js";
import type { Runs } from "./run-service.js";
import type { GdbResource, GdbService } from "./services.js";
import { openPlace, type Place } from "./sockets.js";
import type { VmEntry } from "./vm-entry.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps {
  readonly registry: VmRegistry;
  readonly runs: Runs;
  readonly log: Log;
  /** Of the sockets; null: debugging is off. */
  readonly directory: string | null;
}

export class GdbStubs implements GdbService {
  readonly #deps: Deps;
  /** Where each stub listens. */
  readonly #places = new WeakMap<GdbServer, Place>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async open(vmId: string, port: number | null): Promise<GdbResource> {
    const { registry, directory } = this.#deps;
    const found = registry.require(vmId);
    if (directory === null) {
      const why = "Debugging is off on this host: start the service with GDB=on to allow it.";
      throw new ServiceError("gdb-off", why);
    }
    await requireGuestCode(found.requireHandle());
    // In line with stop and delete, so that no stub outlives its VM's thread.
    return found.changes.run(async () => {
      const entry = registry.require(vmId);
      const handle = entry.requireHandle();
      if (entry.debugger !== null) {
        throw new ServiceError("gdb-open", "The VM has a GDB stub: use it, or DELETE it first.");
      }
      const server = new GdbServer({
        vmId,
        log: this.#deps.log,
        session: () => ({
          access: new GuestAccess(handle),
          control: this.#controlOf(entry, handle),
        }),
      });
      const where = port === null ? join(directory, `${vmId}.sock`) : port;
      const place = await openPlace(where, "gdb-listen-failed", server);
      this.#places.set(server, place);
      if (entry.handle !== handle) {
        await server.close();
        entry.requireHandle();
      }
      entry.debugger = server;
      return this.#resource(vmId, server);
    });
  }

  async get(vmId: string): Promise<GdbResource> {
    return this.#resource(vmId, serverOf(this.#deps.registry.require(vmId)));
  }

  async close(vmId: string): Promise<void> {
    const entry = this.#deps.registry.require(vmId);
    const server = serverOf(entry);
    // Not in line with stop and delete: these must end a VM that doesn't answer any more.
    await server.close();
    if (entry.debugger === server) entry.debugger = null;
  }

  #controlOf(entry: VmEntry, handle: VmHandle): RunControl {
    const { runs } = this.#deps;
    if (entry.definition.board !== undefined) {
      return new BoardRunControl({
        handle,
        onNews: (listener) => {
          entry.boardListeners.add(listener);
          return () => entry.boardListeners.delete(listener);
        },
      });
    }
    return new ClientRunControl({
      halt: () => runs.halt(entry),
      kick: async (vcpu) => void (await handle.call("kick", { vcpu })),
      run: async (vcpu) => {
        const run = runs.begin(entry, handle, vcpu, { immediateExit: false, mmioData: null });
        await run.exited;
        if (run.result !== null && entry.handle === handle) return run.result;
        throw new ServiceError("vm-gone", "The VM ended under its debugger.");
      },
    });
  }

  #resource(vmId: string, server: GdbServer): GdbResource {
    const { path = null, port = null } = this.#places.get(server) ?? {};
    return { vmId, path, port, attached: server.isAttached, counts: { ...server.counts } };
  }
}

/** @throws ServiceError "gdb-not-found" */
function serverOf(entry: VmEntry): GdbServer {
  if (entry.debugger !== null) return entry.debugger;
  throw new ServiceError("gdb-not-found", `VM ${entry.id} has no GDB stub.`);
}

/** @throws ServiceError "vcpu-not-initialised" */
async function requireGuestCode(handle: VmHandle): Promise<void> {
  if ((await new GuestAccess(handle).vcpus()).length > 0) return;
  const why = "No vCPU of the VM runs guest code yet: initialise one with KVM_ARM_VCPU_INIT.";
  throw new ServiceError("vcpu-not-initialised", why);
}

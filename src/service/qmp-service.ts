// Owns: QMP sockets of VMs: opening, looking at, closing. HTTP thread.
import { join } from "node:path";
import type { Clock } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import type { Log } from "../base/log.js";
import type { Face } from "./qmp/command.js";
import { DirtyLimit } from "./qmp/dirty-limit.js";
import { DirtyRate } from "./qmp/dirty-rate.js";
import { EventTeller } from "./qmp/events.js";
import { MigrationSettings } from "./qmp/migration-settings.js";
import { QmpServer } from "./qmp/qmp-server.js";
import { type QmpVmDeps, qmpVm } from "./qmp-vm.js";
import type { QmpResource, QmpService } from "./services.js";
import { openPlace, type Place } from "./sockets.js";
import type { VmEntry } from "./vm-entry.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps extends QmpVmDeps {
  readonly registry: VmRegistry;
  readonly clock: Clock;
  readonly log: Log;
  /** Of this build. */
  readonly version: string;
  /** Of the sockets; null: there are none. */
  readonly directory: string | null;
}

export class QmpSockets implements QmpService {
  readonly #deps: Deps;
  /** Where each listens; those that end themselves are still here. */
  readonly #places = new Map<QmpServer, Place>();
  #isClosing = false;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async open(vmId: string, port: number | null): Promise<QmpResource> {
    const { registry, directory } = this.#deps;
    const found = registry.require(vmId);
    if (directory === null || this.#isClosing) {
      const why = "QMP is off on this host: start the service with QMP=on to allow it.";
      throw new ServiceError("qmp-off", why);
    }
    // In line with stop and delete, so that no socket outlives its VM.
    return found.changes.run(async () => {
      const entry = registry.require(vmId);
      requireThere(entry);
      if (entry.qmp !== null) {
        throw new ServiceError("qmp-open", "The VM has a QMP socket: use it, or DELETE it first.");
      }
      const server = await this.#server(entry);
      const where = port === null ? join(directory, `${vmId}.sock`) : port;
      try {
        this.#places.set(server, await openPlace(where, "qmp-listen-failed", server));
        requireThere(entry);
      } catch (error) {
        await this.#end(server);
        throw error;
      }
      entry.qmp = server;
      return this.#resource(vmId, server);
    });
  }

  async get(vmId: string): Promise<QmpResource> {
    return this.#resource(vmId, serverOf(this.#deps.registry.require(vmId)));
  }

  async close(vmId: string): Promise<void> {
    const entry = this.#deps.registry.require(vmId);
    const server = serverOf(entry);
    entry.qmp = null;
    // Not in line with stop and delete: these must end a VM that doesn't answer any more.
    await this.#end(server);
  }

  /** The service ends. */
  async closeAll(): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#places.keys()].map((server) => this.#end(server)));
  }

  async #server(entry: VmEntry): Promise<QmpServer> {
    const { clock, log, version } = this.#deps;
    const vm = qmpVm(entry, this.#deps);
    const teller = new EventTeller((await vm.state()) === "running");
    const face: Face = {
      vm,
      clock,
      version: numbersOf(version),
      settings: new MigrationSettings(),
      dirtyRate: new DirtyRate(vm, clock),
      dirtyLimit: new DirtyLimit(vm, clock),
      quits: () => teller.quits(),
    };
    return new QmpServer({ face, teller, log, onEnded: (server) => this.#places.delete(server) });
  }

  async #end(server: QmpServer): Promise<void> {
    this.#places.delete(server);
    await server.close();
  }

  #resource(vmId: string, server: QmpServer): QmpResource {
    const { path = null, port = null } = this.#places.get(server) ?? {};
    return { vmId, path, port, clients: server.clients, counts: { ...server.counts } };
  }
}

/** Here, on its way here, or gone to another host: then it can still be asked what became of it. */
function requireThere(entry: VmEntry): void {
  const { state } = entry.record;
  if (state !== "migrated" && (state !== "incoming" || entry.handle === null))
    entry.requireHandle();
}

/** @throws ServiceError "qmp-not-found" */
function serverOf(entry: VmEntry): QmpServer {
  if (entry.qmp !== null) return entry.qmp;
  throw new ServiceError("qmp-not-found", `VM ${entry.id} has no QMP socket.`);
}

function numbersOf(version: string): Face["version"] {
  const [major = 0, minor = 0, micro = 0] = version.split(/[.+-]/).map((part) => Number(part) || 0);
  return [major, minor, micro];
}

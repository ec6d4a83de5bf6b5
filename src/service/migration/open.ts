// Owns: putting the sessions together over the VMs, the peers and the engine. HTTP thread.
import type { Clock } from "../../base/clock.js";
import type { Log } from "../../base/log.js";
import { type DataPlane, SILENCE_MS } from "../../migration/index.js";
import type { Runtime } from "../../runtime/index.js";
import type { Store } from "../../store/index.js";
import type { EventLog } from "../event-log.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import type { Eventfds } from "../eventfd-service.js";
import type { Images } from "../image-service.js";
import { Migrations } from "../migration-service.js";
import type { Recorder } from "../recorder.js";
import type { MovingAutosnapshots } from "../snapshots/types.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Vms } from "../vm-service.js";
import { ENGINE } from "./engine.js";
import type { Engine } from "./engine-port.js";
import { Incoming } from "./incoming.js";
import { lazyPlane } from "./lazy-plane.js";
import { LocalPeer } from "./local-peer.js";
import { Outgoing } from "./outgoing.js";
import { PeerBook } from "./peer-book.js";
import type { PeerEntry } from "./peers.js";
import { reconcileSessions } from "./reconcile.js";
import { SessionBook } from "./session-book.js";
import type { IncomingService, MigrationService } from "./types.js";
import { VmMoves } from "./vm-moves.js";

export interface MigrationConfig {
  /** By which peers know this host. */
  readonly instance: string;
  readonly peers: readonly PeerEntry[];
  /** Of this host's listeners, PEM; null: they speak clear text. */
  readonly certificate: string | null;
  readonly engine: Engine;
  /** Stays the caller's to close. */
  readonly plane: DataPlane;
  /** Outgoing sessions that run at once. */
  readonly runningMax: number;
  /** A target that hears nothing asks its source after this. */
  readonly silenceMs: number;
}

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly registry: VmRegistry;
  readonly vms: Vms;
  readonly images: Images;
  readonly autosnapshots: MovingAutosnapshots;
  readonly events: EventLog;
  readonly runtime: Runtime;
  readonly eventfds: Eventfds;
  readonly attachments: EventfdAttachments;
  readonly clock: Clock;
  readonly log: Log;
  readonly bootId: string;
}

const DEFAULTS: MigrationConfig = {
  instance: "tidemark",
  peers: [],
  certificate: null,
  engine: ENGINE,
  plane: lazyPlane(() => Promise.reject(new Error("this service was started without one"))),
  runningMax: 8,
  silenceMs: SILENCE_MS,
};

export interface OpenMigrations {
  readonly service: MigrationService;
  readonly incoming: IncomingService;
  close(): Promise<void>;
}

/** To be called once the registry has the VMs. */
export async function openMigrations(
  given: Partial<MigrationConfig>,
  deps: Deps,
): Promise<OpenMigrations> {
  const config = { ...DEFAULTS, ...given };
  const { instance, peers: entries, engine, plane, runningMax, silenceMs } = config;
  const { store, recorder, events, clock, log, bootId, registry, vms, images, runtime } = deps;
  const { eventfds, attachments, autosnapshots } = deps;
  const book = await SessionBook.open({ store, recorder, events, clock, log, bootId });
  const peers = new PeerBook(instance, entries, { bytes: (hash) => images.withHash(hash) });
  const moves = new VmMoves({ book, registry, vms, images, autosnapshots });
  const outgoing = new Outgoing({
    ...{ book, registry, moves, peers, engine, plane, attachments, runningMax },
  });
  const incoming = new Incoming({
    ...{ book, registry, vms, images, moves, peers, engine, plane, runtime, silenceMs },
    ...{ eventfds, attachments },
  });
  const service = new Migrations({ book, registry, peers, engine, outgoing, incoming });
  peers.addLocal(new LocalPeer(incoming, (id) => service.verdict(id), config.certificate));
  await reconcileSessions({ book, registry, outgoing, incoming, moves });
  return {
    service,
    incoming,
    close: async () => {
      await outgoing.close();
      await incoming.close();
      await book.flush();
      peers.close();
    },
  };
}

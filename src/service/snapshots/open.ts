// Owns: putting the parts of snapshots together. HTTP thread, at start.
import type { Clock } from "../../base/clock.js";
import type { Log } from "../../base/log.js";
import type { Store } from "../../store/index.js";
import type { EventLog } from "../event-log.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import type { Images } from "../image-service.js";
import type { ServiceLimits } from "../limits.js";
import type { Recorder } from "../recorder.js";
import type { VmParts } from "../vm-parts.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Vms } from "../vm-service.js";
import { Autosnapshots } from "./autosnapshots.js";
import { SnapshotRestores } from "./restores.js";
import type { SnapshotBook } from "./snapshot-book.js";
import type { SnapshotIo } from "./snapshot-io.js";
import { SnapshotJobs } from "./snapshot-jobs.js";
import { Snapshots } from "./snapshot-service.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly registry: VmRegistry;
  readonly vms: Vms;
  readonly parts: VmParts;
  readonly images: Images;
  readonly events: EventLog;
  readonly attachments: EventfdAttachments;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: ServiceLimits;
  readonly bootId: string;
}

/** After the VMs' records are read. */
export async function openSnapshots(
  book: SnapshotBook,
  io: SnapshotIo,
  deps: Deps,
): Promise<Snapshots> {
  const { registry, images } = deps;
  const jobs = new SnapshotJobs({ book, io, ...deps });
  const restores = new SnapshotRestores({ book, io, ...deps });
  const autosnapshots = await Autosnapshots.open({ book, jobs, ...deps });
  images.alsoNeededBy((sha256) => {
    const user = book.all().find(({ record }) => record.images.includes(sha256));
    return user === undefined ? null : `Snapshot ${user.record.id}`;
  });
  return new Snapshots({ book, io, registry, jobs, restores, autosnapshots });
}

// Owns: the list of all operations, in the order of the document. HTTP thread.
import type { ApiDeps } from "../deps.js";
import type { Operation } from "../operation.js";
import { assignedDeviceOperations } from "./assigned-devices.js";
import { attributeOperations } from "./attributes.js";
import { boardOperations } from "./board.js";
import { capabilityOperations } from "./capabilities.js";
import { coalescedOperations } from "./coalesced.js";
import { consoleOperations } from "./console.js";
import { devicePartOperations } from "./device-parts.js";
import { deviceOperations } from "./devices.js";
import { dirtyLogOperations } from "./dirty-log.js";
import { dirtyRegisterOperations } from "./dirty-registers.js";
import { dirtyRingOperations } from "./dirty-ring.js";
import { dirtySettingsOperations } from "./dirty-settings.js";
import { eventfdOperations } from "./eventfds.js";
import { eventOperations } from "./events.js";
import { experimentOperations } from "./experiments.js";
import { faultOperations } from "./faults.js";
import { gdbOperations } from "./gdb.js";
import { guestOperations } from "./guest.js";
import { guestMemfdOperations } from "./guest-memfds.js";
import { hacdbsOperations } from "./hacdbs.js";
import { healthOperations } from "./health.js";
import { hostOperations } from "./host.js";
import { imageOperations } from "./images.js";
import { incomingOperations } from "./incoming.js";
import { inspectOperations } from "./inspect.js";
import { ioeventfdOperations } from "./ioeventfds.js";
import { irqOperations } from "./irq.js";
import { irqfdOperations } from "./irqfds.js";
import { memoryObjectOperations } from "./memory-objects.js";
import { memslotOperations } from "./memslots.js";
import { migrationOperations } from "./migrations.js";
import { notYetOperations } from "./not-yet.js";
import { problemOperations } from "./problems.js";
import { qmpOperations } from "./qmp.js";
import { registerOperations } from "./registers.js";
import { runOperations } from "./runs.js";
import { snapshotOperations } from "./snapshots.js";
import { stage2Operations } from "./stage2.js";
import { trackingOperations } from "./tracking.js";
import { vcpuOperations } from "./vcpus.js";
import { vfioFileOperations } from "./vfio-files.js";
import { vgicOperations } from "./vgic.js";
import { vgicV5Operations } from "./vgic-v5.js";
import { traceOperations } from "./vm-trace.js";
import { vmOperations } from "./vms.js";

export function allOperations(deps: ApiDeps): readonly Operation[] {
  return [
    ...hostOperations(deps),
    ...vmOperations(deps),
    ...imageOperations(deps),
    ...boardOperations(deps),
    ...consoleOperations(deps),
    ...gdbOperations(deps),
    ...qmpOperations(deps),
    ...capabilityOperations(deps),
    ...inspectOperations(deps),
    ...traceOperations(deps),
    ...vcpuOperations(deps),
    ...registerOperations(deps),
    ...guestOperations(deps),
    ...attributeOperations(deps),
    ...runOperations(deps),
    ...memoryObjectOperations(deps),
    ...guestMemfdOperations(deps),
    ...memslotOperations(deps),
    ...dirtyLogOperations(deps),
    ...dirtyRingOperations(deps),
    ...trackingOperations(deps),
    ...dirtySettingsOperations(deps),
    ...dirtyRegisterOperations(deps),
    ...faultOperations(deps),
    ...hacdbsOperations(deps),
    ...coalescedOperations(deps),
    ...eventfdOperations(deps),
    ...ioeventfdOperations(deps),
    ...irqfdOperations(deps),
    ...assignedDeviceOperations(deps),
    ...irqOperations(deps),
    ...vgicOperations(deps),
    ...vgicV5Operations(deps),
    ...deviceOperations(deps),
    ...devicePartOperations(deps),
    ...vfioFileOperations(deps),
    ...stage2Operations(deps),
    ...experimentOperations(deps),
    ...migrationOperations(deps),
    ...snapshotOperations(deps),
    ...incomingOperations(deps),
    ...eventOperations(deps),
    ...notYetOperations(deps),
    ...healthOperations(deps),
    ...problemOperations(),
  ];
}

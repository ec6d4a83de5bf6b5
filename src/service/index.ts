// Owns: service's front door. HTTP thread.

export {
  DIRTY_DEFECTS,
  DIRTY_DIAGNOSTICS,
  DIRTY_FAULTS,
  DIRTY_SETTINGS,
} from "../runtime/index.js";
export { createServices, type ServiceLimits } from "./create-services.js";
export type { HostUapi } from "./host-service.js";
export { lazyPlane } from "./migration/lazy-plane.js";
export { readPeers } from "./migration/peers.js";
export type * from "./services.js";

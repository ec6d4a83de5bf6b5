// Owns: service's front door. HTTP thread.
export { createServices, type ServiceLimits } from "./create-services.js";
export type { HostUapi } from "./host-service.js";
export type * from "./services.js";

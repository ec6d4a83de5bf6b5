// Owns: capability values that follow from other limits. Any thread.
import { KVM_DIRTY_GFN_BYTES, KVM_DIRTY_RING_MAX_ENTRIES, KVM_MAX_IRQ_ROUTES } from "./flags.js";

export const KVM_RING_BYTES_MAX = KVM_DIRTY_RING_MAX_ENTRIES * KVM_DIRTY_GFN_BYTES;
export const KVM_IRQ_ROUTING_MAX_ROUTES = KVM_MAX_IRQ_ROUTES;

// Owns: an eventfd as its JSON. HTTP thread.
import { hex } from "../../base/hex.js";
import type { EventfdResource } from "../services.js";

export function eventfdView({ id, count, isSemaphore, createdAt }: EventfdResource) {
  return { id, count: hex(count), semaphore: isSemaphore, createdAt };
}

// Owns: names that must never repeat, not even after a restart. Any thread.
// The one place with true randomness: these ids belong to the service, not to a VM's replay.
import { randomBytes, randomUUID } from "node:crypto";

/** @returns for example "vm_q3Zk0bV1mC9xR4tS": prefix and 96 random bits, safe in a URL. */
export function newId(prefix: string): string {
  return `${prefix}_${randomBytes(12).toString("base64url")}`;
}

/** @returns a random UUID, RFC 9562 version 4, lower case. */
export function newUuid(): string {
  return randomUUID();
}

/** @returns 256 random bits as text, to be known by two and guessed by nobody. */
export function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

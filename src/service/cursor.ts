// Owns: opaque cursors of lists that are ordered by creation. HTTP thread.
import { ServiceError } from "../base/errors.js";

/** @param seq position of the last item of a page */
export function cursorOf(seq: number): string {
  return Buffer.from(`after:${seq}`).toString("base64url");
}

/** @throws ServiceError "cursor-invalid" */
export function readCursor(cursor: string): number {
  const text = Buffer.from(cursor, "base64url").toString("latin1");
  const match = /^after:([0-9]{1,15})$/.exec(text);
  if (match === null) {
    throw new ServiceError(
      "cursor-invalid",
      "The cursor is not one that this service gave: start the list anew without it.",
    );
  }
  return Number(match[1]);
}

/** @param name of the last item of a page that is ordered by names */
export function cursorOfName(name: string): string {
  return Buffer.from(`name:${name}`).toString("base64url");
}

/** @throws ServiceError "cursor-invalid" */
export function readNameCursor(cursor: string): string {
  const text = Buffer.from(cursor, "base64url").toString("latin1");
  if (text.startsWith("name:")) return text.slice("name:".length);
  throw new ServiceError("cursor-invalid", "The cursor is not one that this list gave.");
}

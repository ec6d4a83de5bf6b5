// Owns: calls of a real service with JSON bodies, for tests of what goes through every room. What
// comes back is checked against the document, as in every test that calls a service.
import { Caller, type Answer as Checked } from "../bad-input/caller.js";
import type { RealService } from "./real-service.js";

interface Answer {
  readonly status: number;
  /** Parsed when it is JSON, else null. */
  readonly body: Checked["json"];
  readonly bytes: Uint8Array;
  /** Path of what was created, "" without one. */
  readonly location: string;
  readonly type: string;
}

/** @param service asked at each call: a test may start another one */
export function jsonClient(service: () => RealService) {
  let caller: { readonly origin: string; readonly opened: Promise<Caller> } | null = null;
  const callerOf = (origin: string): Promise<Caller> => {
    if (caller?.origin !== origin) caller = { origin, opened: Caller.open(origin) };
    return caller.opened;
  };
  return async (
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> => {
    const to = await callerOf(service().origin);
    const octets = { "content-type": "application/octet-stream", ...headers };
    const { status, json, bytes, ...rest } =
      body instanceof Uint8Array
        ? await to.send({ method, path, headers: octets, body: Buffer.from(body) })
        : await to.json(method, path, body, headers);
    const [location, type] = ["location", "content-type"].map((name) => rest.headers[name]);
    return {
      status,
      body: json ?? null,
      bytes,
      location: String(location ?? ""),
      type: String(type ?? ""),
    };
  };
}

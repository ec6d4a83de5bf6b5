// Owns: calls of a real service with JSON bodies, for tests of what goes through every room.
import type { RealService } from "./real-service.js";

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the service answered
  readonly body: any;
  readonly bytes: Uint8Array;
  readonly headers: Headers;
}

/** @param service asked at each call: a test may start another one */
export function jsonClient(service: () => RealService) {
  return async (
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> => {
    const patch = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const given = body instanceof Uint8Array ? "application/octet-stream" : patch;
    const sent = body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body);
    const answer = await fetch(`${service().origin}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": given }), ...headers },
      ...(body === undefined ? {} : { body: sent }),
    });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const isJson = answer.headers.get("content-type")?.includes("json") === true;
    const parsed: unknown = isJson ? JSON.parse(Buffer.from(bytes).toString("utf8")) : null;
    return { status: answer.status, body: parsed, bytes, headers: answer.headers };
  };
}

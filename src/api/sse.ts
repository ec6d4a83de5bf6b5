// Owns: what the event-stream plugin adds to a reply, as our routes use it. HTTP thread.
import type { FastifyReply } from "fastify";

/** What @fastify/sse adds to a reply whose request asked for a stream. */
export interface Stream {
  readonly isConnected: boolean;
  send(message: { id?: string; event?: string; data: unknown; retry?: number }): Promise<void>;
  sendHeaders(): void;
  onClose(callback: () => void): void;
}

export function streamOf(reply: FastifyReply): Stream | undefined {
  return (reply as unknown as { sse?: Stream }).sse;
}

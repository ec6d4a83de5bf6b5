// Owns: sockets that a VM's tools connect to: where they listen, who may open them. HTTP thread.
import { chmod, mkdir, rm } from "node:fs/promises";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import { ServiceError } from "../base/errors.js";

/** Where to listen. */
export type ListenAt =
  | { readonly path: string }
  | { readonly host: "127.0.0.1"; readonly port: number };

/** Where it listens. */
export interface Place {
  /** Of a Unix socket; null on TCP. */
  readonly path: string | null;
  /** On 127.0.0.1; null on a Unix socket. */
  readonly port: number | null;
}

/** The owner of the service's process, and nobody else. */
const OWNER_ONLY = { directory: 0o700, socket: 0o600 } as const;

/**
 * @param failed told of whatever befalls the server later
 * @returns the port, or null for a socket with a path. Rejects as net.Server.listen
 */
export function listen(
  server: Server,
  at: ListenAt,
  failed: (error: Error) => void,
): Promise<number | null> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(at, () => {
      server.off("error", reject);
      server.on("error", failed);
      // The process may end while a client is there.
      server.unref();
      const address = server.address();
      resolve(typeof address === "object" ? (address?.port ?? null) : null);
    });
  });
}

/**
 * @param where a path, or a port of 127.0.0.1
 * @param code of the ServiceError when that fails
 */
export async function openPlace(
  where: string | number,
  code: string,
  server: { listen(at: ListenAt): Promise<number | null> },
): Promise<Place> {
  const at: ListenAt =
    typeof where === "string" ? { path: where } : { host: "127.0.0.1", port: where };
  try {
    if (typeof where === "string") {
      await mkdir(join(where, ".."), { recursive: true, mode: OWNER_ONLY.directory });
      // Of a life of the service that ended without a goodbye.
      await rm(where, { force: true });
    }
    const port = await server.listen(at);
    if (typeof where === "string") await chmod(where, OWNER_ONLY.socket);
    return { path: typeof where === "string" ? where : null, port };
  } catch (error) {
    const { code: errno = "an error" } = error as NodeJS.ErrnoException;
    throw new ServiceError(code, `Listening at ${where} failed with ${errno}.`);
  }
}

/** Resolves when the client takes more, or is gone. */
export function send(socket: Socket, text: string, encoding: BufferEncoding): Promise<void> {
  if (socket.destroyed || socket.write(text, encoding)) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off("drain", done);
      socket.off("close", done);
      resolve();
    };
    socket.on("drain", done);
    socket.on("close", done);
  });
}

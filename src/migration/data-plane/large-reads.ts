// Owns: reading a connection into one buffer that is used again and again. Data-plane thread.
//
// A stream of Node's allocates 64 KiB for every read, and collecting them took a third of a
// target's time. `onread` is documented for connections that one makes oneself; for one that was
// accepted, its handle has to be given to a socket that is made with it. Where that can't be done
// (TLS, a Node that changes it) the socket is read as usual.
import { Socket } from "node:net";

interface Handle {
  readonly useUserBuffer?: unknown;
}

interface WithHandle {
  _handle: Handle | null;
}

/**
 * Reads what comes from now on; the socket must have nothing that was read before.
 * @param take looks at bytes that are gone when it returns; false: no more until resume()
 * @returns the socket that has the connection now; the one that was given may be closed
 */
export function readLarge(socket: Socket, bytes: number, take: (chunk: Buffer) => boolean): Socket {
  const from = socket as unknown as WithHandle;
  const handle = from._handle;
  // A TLS socket's handle has one of these, too, but decrypts through the socket that has it.
  const isPlain = socket.constructor === Socket;
  if (!isPlain || handle === null || typeof handle.useUserBuffer !== "function") {
    socket.on("data", (chunk: Buffer) => {
      if (!take(chunk)) socket.pause();
    });
    return socket;
  }
  from._handle = null;
  socket.destroy();
  const buffer = Buffer.allocUnsafeSlow(bytes);
  const onread = { buffer, callback: (count: number) => take(buffer.subarray(0, count)) };
  const taken = new Socket({ handle, onread } as never);
  taken.resume();
  return taken;
}

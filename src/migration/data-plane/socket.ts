// Owns: a socket to a peer's data plane, over TLS where its address says so, and to nobody but the
// peer that is meant. Data-plane thread.
import { connect as connectPlain, type Socket } from "node:net";
import type { Clock } from "../../base/clock.js";
import { connectTls } from "../peer-tls.js";
import type { PeerTrust } from "../ports.js";

const CONNECT_MS_MAX = 5_000;
const PORT_HTTP = 80;
const PORT_HTTPS = 443;
/** What a channel's connection becomes, as HTTP's Upgrade names it. */
export const UPGRADE = "tidemark-pages";

export interface PeerAddress {
  readonly url: string;
  readonly trust: PeerTrust | null;
}

/**
 * Nothing is written before a certificate has been looked at.
 * @throws PeerError "peer-certificate"; any other Error: the network's
 */
export function openSocket({ url: text, trust }: PeerAddress, clock: Clock): Promise<Socket> {
  const url = new URL(text);
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port || (isTls ? PORT_HTTPS : PORT_HTTP));
  return new Promise((resolve, reject) => {
    const opened = (error: Error | null): void => {
      cancel();
      if (error === null) {
        socket.setNoDelay(true);
        resolve(socket);
      } else {
        socket.destroy();
        reject(error);
      }
    };
    const socket = isTls
      ? connectTls({ host, port }, trust, opened)
      : connectClear(host, port, opened);
    const cancel = clock.timer(CONNECT_MS_MAX, () => {
      socket.destroy(new Error(`${url.host} does not answer`));
    });
  });
}

function connectClear(host: string, port: number, opened: (error: Error | null) => void): Socket {
  const socket = connectPlain({ host, port });
  const failed = (error: Error): void => opened(error);
  socket.once("error", failed);
  socket.once("connect", () => {
    socket.off("error", failed);
    opened(null);
  });
  return socket;
}

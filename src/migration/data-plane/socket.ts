// Owns: a socket to a peer's data plane, over TLS where its address says so, and to nobody but the
// peer whose certificate is pinned. Data-plane thread.
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Clock } from "../../base/clock.js";
import { StreamError } from "../wire/stream-error.js";

const CONNECT_MS_MAX = 5_000;
/** What a channel's connection becomes, as HTTP's Upgrade names it. */
export const UPGRADE = "tidemark-pages";

export interface PeerAddress {
  readonly url: string;
  /** SHA-256 of the peer's certificate, hex; null: the system's trust. */
  readonly certificatePin: string | null;
}

/**
 * Nothing is written before the certificate has been looked at, so no secret goes to a stranger.
 * @throws StreamError "peer-certificate"; any other Error: the network's
 */
export function openSocket(address: PeerAddress, clock: Clock): Promise<Socket> {
  const url = new URL(address.url);
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port || (isTls ? 443 : 80));
  const pin = address.certificatePin;
  return new Promise((resolve, reject) => {
    const socket = isTls
      ? connectTls({ host, port, servername: nameOf(host), rejectUnauthorized: pin === null })
      : connectPlain({ host, port, noDelay: true });
    const cancel = clock.timer(CONNECT_MS_MAX, () => {
      socket.destroy(new Error(`${url.host} does not answer`));
    });
    const fail = (error: Error): void => {
      cancel();
      socket.destroy();
      reject(error);
    };
    socket.once("error", fail);
    socket.once(isTls ? "secureConnect" : "connect", () => {
      cancel();
      socket.off("error", fail);
      socket.setNoDelay(true);
      if (isTls && pin !== null && !isPinned(socket as TLSSocket, pin)) {
        const why = `${url.host} has another certificate than the one that is pinned.`;
        fail(new StreamError("peer-certificate", why, true));
        return;
      }
      resolve(socket);
    });
  });
}

/** Server names are never addresses (RFC 6066). */
function nameOf(host: string): string {
  return /^[0-9.]+$|:/.test(host) ? "" : host;
}

function isPinned(socket: TLSSocket, pin: string): boolean {
  const plain = (text: string): string => text.replaceAll(":", "").toLowerCase();
  return plain(socket.getPeerCertificate().fingerprint256 ?? "") === plain(pin);
}

// Owns: TLS connections to a peer, and whose certificate is accepted: the same for its API and for
// its pages. HTTP thread, data-plane thread.
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { PeerError, type PeerTrust } from "./ports.js";

const OTHER_NAME = "ERR_TLS_CERT_ALTNAME_INVALID";
const NOT_NOW: ReadonlySet<string> = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);

interface Address {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * Nothing is written before the certificate has been looked at, so no secret goes to a stranger.
 * @param trust null: a peer without a name, and the system's authorities
 * @param opened called once unless the socket is destroyed without an error before. With null:
 *   it may be used; with a PeerError "peer-certificate", which trying again doesn't change; with
 *   any other Error: the network's
 */
export function connectTls(
  { host, port }: Address,
  trust: PeerTrust | null,
  opened: (error: Error | null) => void,
): TLSSocket {
  const { certificatePin: pin = null, ca = null } = trust ?? {};
  const who = `${trust === null ? "The peer" : `Peer ${trust.peer}`} at ${host}:${port}`;
  const socket = connect({
    ...{ host, port },
    // Names of servers are never addresses (RFC 6066).
    servername: isIP(host) === 0 ? host : "",
    // A digest says who it is; no authority has to.
    rejectUnauthorized: pin === null,
    ...(ca === null ? {} : { ca }),
  });
  const failed = (error: Error): void => {
    // Set by the look at the certificate, and by nothing else.
    const isRefused = Boolean(socket.authorizationError);
    opened(isRefused ? refused(`${who} ${untrusted(error, ca)}`) : error);
  };
  socket.once("error", failed);
  socket.once("secureConnect", () => {
    socket.off("error", failed);
    const why = pin === null ? null : unlike(pin, socket);
    if (why !== null) socket.destroy();
    opened(why === null ? null : refused(`${who} ${why}`));
  });
  return socket;
}

/** Not the peer's answer: who shows it may be anybody. */
function refused(why: string): PeerError {
  return new PeerError("peer-certificate", why, false, false);
}

/** @returns null: it is the pinned one */
function unlike(pin: string, socket: TLSSocket): string | null {
  const plain = (text: string): string => text.replaceAll(":", "").toLowerCase();
  const found = plain(socket.getPeerCertificate().fingerprint256 ?? "");
  if (found === plain(pin)) return null;
  const shows = found === "" ? "shows no certificate" : `shows the certificate ${found}`;
  return `${shows}, which is not the pinned one.`;
}

function untrusted(error: NodeJS.ErrnoException, ca: string | null): string {
  const { code = "", message } = error;
  const why = message.replace(/\.$/, "");
  if (code === OTHER_NAME) return `shows a certificate that is for another host: ${why}.`;
  if (NOT_NOW.has(code)) return `shows a certificate that isn't valid now: ${why}.`;
  const nobody = ca === null ? "none of the system's authorities" : "no authority of its caFile";
  return `shows a certificate that ${nobody} vouches for: ${why}.`;
}

// Owns: this host as its own peer: a VM moves to a new thread of the same process. HTTP thread.

import { X509Certificate } from "node:crypto";
import { toRefusal } from "../../base/errors.js";
import type {
  MigrationParameters,
  Offer,
  Passport,
  PeerStatus,
  PeerTrust,
  Verdict,
} from "../../migration/index.js";
import { PeerError } from "../../migration/index.js";
import type { KnownPeer } from "./http-peer.js";
import { LOCAL } from "./peers.js";
import type { IncomingService, MigrationService, Preflight } from "./types.js";

export class LocalPeer implements KnownPeer {
  readonly name = LOCAL;
  readonly trust: PeerTrust;
  readonly #incoming: IncomingService;
  readonly #verdict: MigrationService["verdict"];

  /** @param certificate of this host's listeners, PEM: pages go through them; null: clear text */
  constructor(
    incoming: IncomingService,
    verdict: MigrationService["verdict"],
    certificate: string | null,
  ) {
    const pin = certificate === null ? null : new X509Certificate(certificate).fingerprint256;
    this.trust = { peer: LOCAL, certificatePin: pin, ca: null };
    this.#incoming = incoming;
    this.#verdict = verdict;
  }

  check(passport: Passport): Promise<Preflight> {
    return this.#incoming.check(passport);
  }

  async offer(passport: Passport, parameters: MigrationParameters): Promise<Offer> {
    return (await asPeer(this.#incoming.offer(passport, parameters))).offer;
  }

  status(session: string): Promise<PeerStatus> {
    return asPeer(this.#incoming.status(session));
  }

  finish(session: string, state: Uint8Array, digest: string | null): Promise<string | null> {
    return asPeer(this.#incoming.finish(session, state, digest));
  }

  async commit(session: string): Promise<void> {
    await asPeer(this.#incoming.commit(session));
  }

  async abort(session: string, why: string, unlessReady = false): Promise<void> {
    await asPeer(this.#incoming.abort(session, why, unlessReady));
  }

  verdict(session: string): Promise<Verdict> {
    return this.#verdict(session);
  }

  close(): void {}
}

/** What the engine is told by any peer that refuses. */
async function asPeer<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    const { code, detail, extensions } = toRefusal(error);
    const isTransient = code === "store-unavailable" || code === "session-later";
    const { reason } = extensions ?? {};
    throw new PeerError(typeof reason === "string" ? reason : code, detail, isTransient, true);
  }
}

// Owns: the peers of this host by name, this host among them. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { PeerError, type SourceVoice } from "../../migration/index.js";
import { HttpPeer, type ImageSource, type KnownPeer } from "./http-peer.js";
import { LOCAL, type PeerEntry } from "./peers.js";
import type { PeerResource } from "./types.js";

export class PeerBook {
  /** By which peers know this host. */
  readonly instance: string;
  readonly #entries: readonly PeerEntry[];
  readonly #open = new Map<string, KnownPeer>();

  constructor(instance: string, entries: readonly PeerEntry[], images: ImageSource) {
    this.instance = instance;
    // All hosts may have the same list.
    this.#entries = entries.filter(({ name }) => name !== instance);
    for (const entry of this.#entries) this.#open.set(entry.name, new HttpPeer(entry, images));
  }

  /** This host is a peer, too. */
  addLocal(peer: KnownPeer): void {
    this.#open.set(LOCAL, peer);
  }

  list(): readonly PeerResource[] {
    const others = this.#entries.map(({ name, url, certificatePin }) => {
      return { name, url, isPinned: certificatePin !== null };
    });
    return [{ name: LOCAL, url: "/", isPinned: false }, ...others];
  }

  /** @throws ServiceError "peer-unknown": of a request's body */
  require(name: string): KnownPeer {
    const peer = this.#open.get(name);
    if (peer !== undefined) return peer;
    const known = [...this.#open.keys()].join(", ");
    const why = `This host knows no peer ${name}, only ${known}: its list is PEERS_FILE.`;
    throw new ServiceError("peer-unknown", why);
  }

  /** Of a session; a peer that has left the list since can't be reached. */
  open(name: string): KnownPeer {
    const peer = this.#open.get(name);
    if (peer !== undefined) return peer;
    throw new PeerError("peer-unknown", `Peer ${name} is not in PEERS_FILE any more.`, false);
  }

  /** The source of an incoming session; null: there is no way to ask it. */
  voice(name: string, session: string): SourceVoice | null {
    const peer = this.#open.get(name);
    return peer === undefined ? null : { verdict: () => peer.verdict(session) };
  }

  close(): void {
    for (const peer of this.#open.values()) peer.close();
  }
}

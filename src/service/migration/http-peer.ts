// Owns: a peer over HTTP: offers, states, images and verdicts. HTTP thread.
import type {
  MigrationParameters,
  Offer,
  Passport,
  Peer,
  PeerStatus,
  PeerTrust,
  Verdict,
} from "../../migration/index.js";
import { PeerClient, PeerProblem } from "./peer-request.js";
import { type PeerEntry, trustOf } from "./peers.js";
import type { Preflight } from "./types.js";

/** Milliseconds without a byte after which a plain request is given up. */
const ANSWER_MS = 15_000;
/** Building a VM, taking an image or a digest takes longer. */
const WORK_MS = 120_000;
/** The guest waits while a state is loaded; a target that digests all of its memory has WORK_MS. */
const FINISH_MS = 10_000;
/** Characters of a reason. */
const WHY_MAX = 1024;
/** Offers that are repeated for images: each of them makes at least one less missing. */
const OFFERS_MAX = 8;

const ROOT = "/v1/incoming-migrations";

/** A host's images, for what the target lacks. */
export interface ImageSource {
  bytes(sha256: string): Promise<{ readonly name: string; readonly bytes: Uint8Array }>;
}

/** What this host may ask a peer, beside what the engine does. */
export interface KnownPeer extends Peer {
  readonly trust: PeerTrust;
  check(passport: Passport): Promise<Preflight>;
  /** As the target of its session. */
  verdict(session: string): Promise<Verdict>;
  close(): void;
}

export class HttpPeer implements KnownPeer {
  readonly name: string;
  readonly trust: PeerTrust;
  readonly #client: PeerClient;
  readonly #url: URL;
  readonly #images: ImageSource;

  constructor(entry: PeerEntry, images: ImageSource) {
    this.name = entry.name;
    this.trust = trustOf(entry);
    this.#client = new PeerClient(entry);
    this.#url = new URL(entry.url);
    this.#images = images;
  }

  async offer(passport: Passport, parameters: MigrationParameters): Promise<Offer> {
    for (let left = OFFERS_MAX; ; left--) {
      try {
        return this.#reachable(await this.#offer(passport, parameters));
      } catch (error) {
        const missing = missingImages(error);
        if (missing.length === 0 || left === 0) throw error;
        for (const sha256 of missing) await this.#sendImage(sha256);
      }
    }
  }

  async check(passport: Passport): Promise<Preflight> {
    const body = { passport, validateOnly: true };
    return (await this.#post(ROOT, body, WORK_MS)) as Preflight;
  }

  async status(session: string): Promise<PeerStatus> {
    return statusOf(await this.#get(`${ROOT}/${encodeURIComponent(session)}`));
  }

  async finish(session: string, state: Uint8Array, digest: string | null): Promise<string | null> {
    const query = digest === null ? "" : `?digest=${encodeURIComponent(digest)}`;
    const path = `${ROOT}/${encodeURIComponent(session)}:finish${query}`;
    const limitMs = digest === null ? FINISH_MS : WORK_MS;
    const answer = (await this.#post(path, state, limitMs)) as { readonly digest: string | null };
    return answer.digest;
  }

  async commit(session: string): Promise<void> {
    await this.#post(`${ROOT}/${encodeURIComponent(session)}:commit`, undefined, ANSWER_MS);
  }

  async abort(session: string, why: string, unlessReady = false): Promise<void> {
    const body = { why: why.slice(0, WHY_MAX), unlessReady };
    await this.#post(`${ROOT}/${encodeURIComponent(session)}:abort`, body, ANSWER_MS);
  }

  async verdict(session: string): Promise<Verdict> {
    const path = `/v1/migrations/${encodeURIComponent(session)}/verdict`;
    return ((await this.#get(path)) as { readonly verdict: Verdict }).verdict;
  }

  close(): void {
    this.#client.close();
  }

  async #offer(passport: Passport, parameters: MigrationParameters): Promise<Offer> {
    return (await this.#post(ROOT, { passport, parameters }, WORK_MS)) as Offer;
  }

  /** Pages go to the host of the peer's entry, wherever its listener believes to be. */
  #reachable(offer: Offer): Offer {
    const url = new URL(offer.dataPlane.url);
    url.hostname = this.#url.hostname;
    return { ...offer, dataPlane: { ...offer.dataPlane, url: url.origin } };
  }

  async #sendImage(sha256: string): Promise<void> {
    const { name, bytes } = await this.#images.bytes(sha256);
    const path = `/v1/incoming-images/${sha256}?name=${encodeURIComponent(name)}`;
    await this.#client.send({ method: "PUT", path, body: bytes, timeoutMs: WORK_MS });
  }

  #get(path: string): Promise<unknown> {
    return this.#client.send({ method: "GET", path, timeoutMs: ANSWER_MS });
  }

  #post(path: string, body: Uint8Array | object | undefined, timeoutMs: number): Promise<unknown> {
    const rest = body === undefined ? {} : { body };
    return this.#client.send({ method: "POST", path, timeoutMs, ...rest });
  }
}

function missingImages(error: unknown): readonly string[] {
  if (!(error instanceof PeerProblem) || error.code !== "images-missing") return [];
  const { missing } = error.members;
  return Array.isArray(missing) ? missing.filter((item) => typeof item === "string") : [];
}

function statusOf(answer: unknown): PeerStatus {
  const { state, point, failure } = answer as PeerStatus;
  return { state, point, failure };
}

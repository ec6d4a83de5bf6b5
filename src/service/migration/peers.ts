// Owns: the hosts that VMs may move to and come from: the list is the allow-list. HTTP thread.
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { PeerTrust } from "../../migration/index.js";

/** A peer as its line of the list says, its files read. */
export interface PeerEntry {
  readonly name: string;
  /** http://… or https://…, without a path. */
  readonly url: string;
  readonly token: string | null;
  /** SHA-256 of its certificate, lower-case hex. */
  readonly certificatePin: string | null;
  /** PEM of the authority that its certificate comes from. */
  readonly ca: string | null;
}

/** The same for its API and for its pages. */
export function trustOf({ name: peer, certificatePin, ca }: PeerEntry): PeerTrust {
  return { peer, certificatePin, ca };
}

const NAME = /^[a-z0-9][a-z0-9.-]{0,62}$/;
const PIN = /^[0-9a-f]{64}$/;
const FIELDS = new Set(["name", "url", "tokenFile", "certificatePin", "caFile"]);
/** Hosts that one host knows. */
const PEERS_MAX = 256;

/** The peer that is this host itself. */
export const LOCAL = "local";

function fail(at: number, why: string): never {
  throw new Error(`entry ${at + 1} ${why}`);
}

function textOf(at: number, entry: Readonly<Record<string, unknown>>, name: string) {
  const value = entry[name];
  if (value === undefined || value === null) return null;
  return typeof value === "string" && value !== ""
    ? value
    : fail(at, `has a ${name} that is no text`);
}

function urlOf(at: number, text: string | null): string {
  const url = text !== null && URL.canParse(text) ? new URL(text) : null;
  const isPlain =
    url !== null &&
    /^https?:$/.test(url.protocol) &&
    url.pathname === "/" &&
    url.search === "" &&
    url.username === "";
  return isPlain ? url.origin : fail(at, "has no url like http://host:8080");
}

async function fileOf(at: number, path: string | null): Promise<string | null> {
  if (path === null) return null;
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    return fail(at, `names a file that can't be read: ${(error as Error).message}`);
  }
}

function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}

async function readPeer(at: number, given: unknown): Promise<PeerEntry> {
  if (typeof given !== "object" || given === null) fail(at, "is no object");
  const entry = given as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(entry).find((field) => !FIELDS.has(field));
  if (unknown !== undefined) fail(at, `has the unknown field "${unknown}"`);
  const name = textOf(at, entry, "name");
  if (name === null || !NAME.test(name)) fail(at, "has no name of a-z, 0-9, dot and hyphen");
  if (name === LOCAL) fail(at, `is named "${LOCAL}", which is this host itself`);
  const url = urlOf(at, textOf(at, entry, "url"));
  const pin = textOf(at, entry, "certificatePin")?.replaceAll(":", "").toLowerCase() ?? null;
  if (pin !== null && !PIN.test(pin)) fail(at, "has a certificatePin that is no SHA-256 in hex");
  const ca = await fileOf(at, textOf(at, entry, "caFile"));
  // A connection would be refused for it, and not say why.
  if (ca !== null && !isCertificate(ca)) fail(at, "has a caFile that holds no certificate in PEM");
  if ((pin !== null || ca !== null) && !url.startsWith("https:")) {
    fail(at, "has a certificatePin or caFile, but its url is not https");
  }
  const token = await fileOf(at, textOf(at, entry, "tokenFile"));
  return { name, url, token, certificatePin: pin, ca };
}

/**
 * Reads the list: `[{"name", "url", "tokenFile"?, "certificatePin"?, "caFile"?}]`.
 * @throws Error with the end of a sentence
 */
export async function readPeers(text: string): Promise<readonly PeerEntry[]> {
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list)) throw new Error("it is no JSON list");
  if (list.length > PEERS_MAX) throw new Error(`it has more than ${PEERS_MAX} entries`);
  const peers: PeerEntry[] = [];
  for (const [at, given] of list.entries()) {
    const peer = await readPeer(at, given);
    if (peers.some(({ name }) => name === peer.name)) fail(at, `repeats the name "${peer.name}"`);
    peers.push(peer);
  }
  return peers;
}

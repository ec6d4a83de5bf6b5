// Goal: the list of peers is read strictly; a request reaches the host that it names, with its
// token, and over TLS none but the one with the certificate that is asked for; a refusal comes back
// whole.
// Method: servers of the test's own on loopback, with the recorded certificate.
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type IncomingMessage, type Server } from "node:http";
import { createServer as createTls } from "node:https";
import { type AddressInfo, createServer as createTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { PeerError } from "../../../src/migration/index.js";
import type { Passport } from "../../../src/service/index.js";
import { HttpPeer } from "../../../src/service/migration/http-peer.js";
import { PeerBook } from "../../../src/service/migration/peer-book.js";
import { PeerClient } from "../../../src/service/migration/peer-request.js";
import { type PeerEntry, readPeers } from "../../../src/service/migration/peers.js";

const fixture = (name: string) =>
  readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), "utf8");
const CERTIFICATE = fixture("certificate.pem");
const KEY = fixture("key.pem");
const KEY_FILE = fileURLToPath(new URL("../../fixtures/tls/key.pem", import.meta.url));
const PIN = new X509Certificate(CERTIFICATE).fingerprint256.replaceAll(":", "").toLowerCase();

const folder = mkdtempSync(join(tmpdir(), "tidemark-peers-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Request {
  readonly method: string;
  readonly url: string;
  readonly token: string | undefined;
  readonly body: string;
}
type Answer = readonly [status: number, body: unknown];

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** @returns its port, and what was asked */
async function serve(answer: (request: Request) => Answer, isTls = false) {
  const asked: Request[] = [];
  const handler = async (message: IncomingMessage, reply: import("node:http").ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    const request = {
      ...{ method: message.method ?? "", url: message.url ?? "" },
      ...{ token: message.headers.authorization, body: Buffer.concat(chunks).toString() },
    };
    asked.push(request);
    const [status, body] = answer(request);
    reply.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
  };
  const listen = (message: IncomingMessage, reply: import("node:http").ServerResponse) =>
    void handler(message, reply);
  const server = isTls
    ? (createTls({ cert: CERTIFICATE, key: KEY }, listen) as unknown as Server)
    : createHttp(listen);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, asked };
}

const entry = (port: number, more: Partial<PeerEntry> = {}): PeerEntry => ({
  ...{ name: "b", url: `http://127.0.0.1:${port}`, token: "t0ken", certificatePin: null, ca: null },
  ...more,
});

const ask = (peer: PeerEntry) =>
  new PeerClient(peer).send({ method: "GET", path: "/x", timeoutMs: 2000 });

async function errorOf(promise: Promise<unknown>): Promise<PeerError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof PeerError) return error;
  throw new Error(`no PeerError: ${String(error)}`);
}

describe("the list of peers", () => {
  it("has names, origins, tokens and pins", async () => {
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, "secret\n");
    const certificatePin = PIN.toUpperCase().replace(/..(?=.)/g, "$&:");
    const list = [
      { name: "host-b", url: "https://host-b:8443/", tokenFile, certificatePin },
      { name: "c", url: "http://127.0.0.1:1" },
    ];
    expect(await readPeers(JSON.stringify(list))).toEqual([
      {
        name: "host-b",
        url: "https://host-b:8443",
        token: "secret",
        certificatePin: PIN,
        ca: null,
      },
      { name: "c", url: "http://127.0.0.1:1", token: null, certificatePin: null, ca: null },
    ]);
  });

  it.each([
    ["{}", "no JSON list"],
    ["[1]", "entry 1 is no object"],
    ['[{"name":"b","url":"http://b","x":1}]', 'unknown field "x"'],
    ['[{"name":"B b","url":"http://b"}]', "has no name"],
    ['[{"name":"local","url":"http://b"}]', "this host itself"],
    ['[{"name":"b"}]', "has no url"],
    ['[{"name":"b","url":"ftp://b"}]', "has no url"],
    ['[{"name":"b","url":"http://b/path"}]', "has no url"],
    ['[{"name":"b","url":"http://u:p@b"}]', "has no url"],
    ['[{"name":"b","url":"https://b","certificatePin":"abc"}]', "no SHA-256"],
    [`[{"name":"b","url":"http://b","certificatePin":"${"0".repeat(64)}"}]`, "not https"],
    ['[{"name":"b","url":"http://b","tokenFile":"/no/such"}]', "can't be read"],
    [`[{"name":"b","url":"https://b","caFile":"${KEY_FILE}"}]`, "holds no certificate"],
    ['[{"name":"b","url":"http://b","tokenFile":5}]', "tokenFile that is no text"],
    ['[{"name":"b","url":"http://b"},{"name":"b","url":"http://c"}]', 'repeats the name "b"'],
  ])("refuses %s", async (text, why) => {
    await expect(readPeers(text)).rejects.toThrow(why);
  });
});

describe("the peers of a host", () => {
  it("don't have itself among them, though all hosts have the same list", () => {
    const list = ["host-a", "host-b"].map((name) => ({ ...entry(1), name }));
    const images = { bytes: () => Promise.reject(new Error("none is asked for")) };
    const book = new PeerBook("host-a", list, images);
    expect(book.list().map(({ name }) => name)).toEqual(["local", "host-b"]);
    expect(() => book.require("host-a")).toThrow("This host knows no peer host-a, only host-b");
    expect(book.require("host-b").name).toBe("host-b");
    book.close();
  });
});

describe("a request to a peer", () => {
  it("carries the token, and brings back JSON", async () => {
    const { port, asked } = await serve(() => [200, { fine: true }]);
    expect(await ask(entry(port))).toEqual({ fine: true });
    expect(asked).toMatchObject([{ method: "GET", url: "/x", token: "Bearer t0ken" }]);
  });

  it("brings a refusal back with its code, and whether trying again helps", async () => {
    const { port } = await serve(({ token }) =>
      token === undefined
        ? [401, { code: "unauthorized", detail: "No token." }]
        : [503, { code: "session-later", detail: "The journal is out of order." }],
    );
    const later = await errorOf(ask(entry(port)));
    expect([later.code, later.isTransient]).toEqual(["session-later", true]);
    expect(later.message).toContain("b refuses: The journal is out of order.");
    const never = await errorOf(ask(entry(port, { token: null })));
    expect([never.code, never.isTransient]).toEqual(["unauthorized", false]);
  });

  it("gives up a host that is silent, gone, or no Tidemark", async () => {
    const { port } = await serve(() => [200, "<html>"]);
    expect((await errorOf(ask(entry(port)))).code).toBe("peer-answer");
    const gone = await errorOf(ask(entry(1)));
    expect([gone.code, gone.isTransient]).toEqual(["peer-unreachable", true]);
    const silent = createHttp(() => {});
    servers.push(silent);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const at = entry((silent.address() as AddressInfo).port);
    const asking = new PeerClient(at).send({ method: "GET", path: "/x", timeoutMs: 100 });
    expect((await errorOf(asking)).message).toContain("no answer within 100 ms");
  });

  it("trusts a pinned certificate alone, and sends nothing to another", async () => {
    const { port, asked } = await serve(() => [200, { fine: true }], true);
    const url = `https://127.0.0.1:${port}`;
    expect(await ask(entry(port, { url, certificatePin: PIN }))).toEqual({ fine: true });
    expect(asked).toHaveLength(1);
    const other = await errorOf(ask(entry(port, { url, certificatePin: "0".repeat(64) })));
    expect(other.message).toContain("is not the pinned one");
    const plain = await errorOf(ask(entry(port, { url })));
    for (const error of [other, plain]) {
      const { code, isTransient, isAnswer } = error;
      expect([code, isTransient, isAnswer]).toEqual(["peer-certificate", false, false]);
    }
    expect(asked).toHaveLength(1);
  });

  it("trusts an authority of one's own in place of the system's", async () => {
    const { port, asked } = await serve(() => [200, { fine: true }], true);
    const url = `https://127.0.0.1:${port}`;
    // It has signed itself.
    expect(await ask(entry(port, { url, ca: CERTIFICATE }))).toEqual({ fine: true });
    const other = await errorOf(ask(entry(port, { url, ca: fixture("authority.pem") })));
    expect(other.code).toBe("peer-certificate");
    expect(other.message).toMatch(
      /^Peer b at 127\.0\.0\.1:\d+ .* no authority of its caFile vouches/,
    );
    expect(asked).toHaveLength(1);
  });

  it("gives up a host that takes its connection and never speaks TLS", async () => {
    const mute = createTcp((socket) => socket.resume().on("error", () => {}));
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const url = `https://127.0.0.1:${(mute.address() as AddressInfo).port}`;
    const client = new PeerClient(entry(1, { url, certificatePin: PIN }));
    const error = await errorOf(client.send({ method: "GET", path: "/x", timeoutMs: 100 }));
    mute.close();
    expect([error.code, error.isTransient]).toEqual(["peer-unreachable", true]);
    expect(error.message).toContain("no answer within 100 ms");
  });
});

describe("a peer over HTTP", () => {
  const passport = { version: 1, vm: {} } as unknown as Passport;
  const images = { bytes: async (hash: string) => ({ name: hash, bytes: new Uint8Array([1]) }) };

  it("is sent the images that it lacks, and its pages go to its own host", async () => {
    const missing = new Set(["aa", "bb"]);
    const { port, asked } = await serve(({ method, url }) => {
      if (method === "PUT") {
        missing.delete(url.split("/").at(-1)?.split("?")[0] ?? "");
        return [204, ""];
      }
      if (missing.size > 0) return [409, { code: "images-missing", missing: [...missing] }];
      const dataPlane = { url: "http://0.0.0.0:4321", secret: "s" };
      return [201, { session: "mig_1", stream: 1, dataPlane }];
    });
    const peer = new HttpPeer(entry(port), images);
    const offer = await peer.offer(passport, {} as never);
    expect(offer.dataPlane.url).toBe("http://127.0.0.1:4321");
    expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "POST /v1/incoming-migrations",
      "PUT /v1/incoming-images/aa?name=aa",
      "PUT /v1/incoming-images/bb?name=bb",
      "POST /v1/incoming-migrations",
    ]);
  });

  it("speaks of a session by its id, and knows the engine's words again", async () => {
    const { port, asked } = await serve(({ url }) => {
      if (url.endsWith(":commit")) {
        return [409, { code: "session-refused", reason: "not-ready", detail: "Not yet." }];
      }
      if (url.includes(":finish")) return [200, { digest: "d1" }];
      if (url.endsWith("/verdict")) return [200, { verdict: "released" }];
      return [200, { state: "active", point: "none", failure: null, id: "x" }];
    });
    const peer = new HttpPeer(entry(port), images);
    expect(await peer.status("mig_1")).toEqual({ state: "active", point: "none", failure: null });
    expect(await peer.finish("mig_1", new Uint8Array([7]), "d1")).toBe("d1");
    expect(await peer.verdict("mig_2")).toBe("released");
    await peer.abort("mig_1", "x".repeat(5000), true);
    expect((await errorOf(peer.commit("mig_1"))).code).toBe("not-ready");
    const aborted = JSON.parse(asked.find(({ url }) => url.endsWith(":abort"))?.body ?? "{}");
    expect(aborted).toEqual({ why: "x".repeat(1024), unlessReady: true });
    expect(asked[1]?.url).toBe("/v1/incoming-migrations/mig_1:finish?digest=d1");
  });
});

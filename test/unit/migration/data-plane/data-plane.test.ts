// Goal: pages go from thread to thread over HTTP, through cuts, and to nobody who isn't meant.
// Method: two data planes with their own threads in one process, requests of our own beside them.
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../../dist/base/clock.js";
import { silentLog } from "../../../../dist/base/log.js";
import {
  type RunningDataPlane,
  startDataPlane,
} from "../../../../dist/migration/data-plane/thread-data-plane.js";
import { Prng } from "../../../../src/base/prng.js";
import { CuttingProxy } from "../../../support/cutting-proxy.js";
import {
  dirty,
  fill,
  incomingSpec,
  isSame,
  outgoingSpec,
  type Side,
  side,
} from "../../../support/page-stream.js";

const FIXTURES = new URL("../../../fixtures/tls/", import.meta.url);
const fixture = (name: string) => readFileSync(new URL(name, FIXTURES), "utf8");
const CERTIFICATE = fixture("certificate.pem");
const KEY = fixture("key.pem");
/** Of authority.pem, for localhost and 127.0.0.1; the other for another host. */
const HOST = { certificate: fixture("host.pem"), key: fixture("host-key.pem") };
const ELSEWHERE = { certificate: fixture("elsewhere.pem"), key: fixture("elsewhere-key.pem") };
const PIN = new X509Certificate(CERTIFICATE).fingerprint256;
const ignore = () => {};

const open: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

const SETTINGS = {
  host: "127.0.0.1",
  port: 0,
  tls: null,
  url: null,
  giveUpMs: 20_000,
  stallMs: 5_000,
  connectionsMax: 64,
  sessionsMax: 8,
};

async function plane(over: object = {}): Promise<RunningDataPlane> {
  const started = await startDataPlane({ ...SETTINGS, ...over }, silentLog);
  open.push(started);
  return started;
}

async function world(a: Side, b: Side, over: object = {}) {
  const source = await plane();
  const target = await plane();
  const incoming = await target.accept(incomingSpec(b, { channels: 2 }));
  const proxy = await CuttingProxy.start(incoming.url);
  open.push(proxy);
  const to = { url: proxy.url, secret: incoming.secret };
  const outgoing = await source.open(outgoingSpec(a, to, { channels: 2, ...over }));
  return { source, target, incoming, outgoing, proxy };
}

describe("data plane", () => {
  for (const compression of ["none", "deflate", "delta"] as const) {
    it(`carries a memory that is stored to meanwhile: ${compression}`, async () => {
      const a = side({ ramPages: 3000, unbackedPages: 1500 });
      const b = side({ ramPages: 3000, unbackedPages: 1500 });
      fill(a, 1n);
      const { incoming, outgoing } = await world(a, b, { compression });
      // A thread that stores all the time: what it leaves is sent at last.
      const writer = new Worker(
        `const { workerData } = require("node:worker_threads");
         const words = new Uint32Array(workerData.buffer, 4096);
         const flag = new Int32Array(workerData.flag);
         let x = 1;
         while (Atomics.load(flag, 0) === 0) {
           x = (Math.imul(x, 1103515245) + 12345) >>> 0;
           words[x % (words.length - 4096)] = x;
         }
         Atomics.store(flag, 1, 1);
         Atomics.notify(flag, 1);`,
        { eval: true, workerData: { buffer: a.map.memory.buffer, flag: flagOf() } },
      );
      const progress: number[] = [];
      const first = await outgoing.send(null, (sent) => progress.push(sent.bytes));
      await outgoing.send(null, ignore);
      await stop(writer);
      const last = await outgoing.send(null, ignore);
      expect(isSame(a, b)).toBe(true);
      expect(await incoming.digest()).toBe(await outgoing.digest());
      expect(first.pagesSent + first.pagesZero).toBe(3000 + 1500);
      expect(first.pagesDuplicate).toBe(0);
      expect(last.pagesDuplicate).toBe(3000 + 1500);
      expect(progress.every((bytes, i) => i === 0 || bytes >= progress[i - 1]!)).toBe(true);
      await outgoing.close();
      await systemClock.sleep(80);
      expect(incoming.received().pagesSent).toBeGreaterThan(0);
    });
  }

  it("resumes however often it is cut", async () => {
    const a = side({ ramPages: 6000, unbackedPages: 2000 });
    const b = side({ ramPages: 6000, unbackedPages: 2000 });
    fill(a, 2n);
    const { outgoing, proxy } = await world(a, b, { compression: "delta" });
    const prng = new Prng(3n);
    proxy.budget = () => 300_000 + prng.below(6_000_000);
    await outgoing.send(null, ignore);
    for (let round = 0; round < 6; round++) {
      const pages = dirty(a, prng, 900);
      const sending = outgoing.send(pages, ignore);
      if (round % 2 === 0) proxy.cut();
      await sending;
      expect(isSame(a, b)).toBe(true);
    }
    expect(proxy.connections).toBeGreaterThan(6);
  });

  it("carries version 1 for a host that knows no other, cut or not", async () => {
    const shape = { ramPages: 3000, unbackedPages: 100 };
    const [a, b] = [side(shape), side(shape)];
    fill(a, 9n);
    const [source, target] = [await plane(), await plane()];
    const incoming = await target.accept(incomingSpec(b, { stream: 1 }));
    const proxy = await CuttingProxy.start(incoming.url);
    open.push(proxy);
    const to = { url: proxy.url, secret: incoming.secret };
    const outgoing = await source.open(outgoingSpec(a, to, { stream: 1 }));
    proxy.budget = () => 2_000_000;
    await outgoing.send(null, ignore);
    expect(proxy.connections).toBeGreaterThan(2);
    expect(isSame(a, b)).toBe(true);
    const newer = await source.open(outgoingSpec(a, incoming, { stream: 2, session: "mig_1" }));
    await outgoing.close();
    await expect(newer.send(null, ignore)).rejects.toMatchObject({ isTransient: false });
  });

  it("gives up on a target that is gone, and on one that doesn't know it", async () => {
    const a = side();
    const source = await plane({ giveUpMs: 200 });
    const target = await plane();
    const incoming = await target.accept(incomingSpec(side()));
    const gone = await source.open(outgoingSpec(a, { url: "http://127.0.0.1:9", secret: "x" }));
    await expect(gone.send(null, ignore)).rejects.toMatchObject({
      code: "peer-lost",
      isTransient: true,
    });
    const stranger = await source.open(outgoingSpec(a, { url: incoming.url, secret: "x" }));
    await expect(stranger.send(null, ignore)).rejects.toMatchObject({
      code: "stream-unauthorized",
      isTransient: false,
    });
  });

  it("gives up on a target that takes connections and says nothing", async () => {
    const sockets: Socket[] = [];
    const mute = createServer((socket) => sockets.push(socket.on("error", ignore)));
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const { port } = mute.address() as AddressInfo;
    const source = await plane({ giveUpMs: 300, stallMs: 100 });
    const to = { url: `http://127.0.0.1:${port}`, secret: "x" };
    const outgoing = await source.open(outgoingSpec(side(), to));
    await expect(outgoing.send(null, ignore)).rejects.toMatchObject({ code: "peer-lost" });
    await expect(outgoing.push(null, ignore)).rejects.toMatchObject({ code: "peer-lost" });
    expect(sockets.length).toBeGreaterThan(1);
    for (const socket of sockets) socket.destroy();
    mute.close();
  });

  it("fails what was under way when its thread dies", async () => {
    const file = new URL(
      `data:text/javascript,${encodeURIComponent(
        `import { parentPort } from "node:worker_threads";
         parentPort.on("message", ({ id, name }) => {
           if (name === "send") process.exit(3);
           parentPort.postMessage({ kind: "done", id, result: { url: "http://x" } });
         });`,
      )}`,
    );
    const settings = { ...SETTINGS, port: 0 };
    const dying = await startDataPlane(settings, silentLog, file);
    const outgoing = await dying.open(outgoingSpec(side(), { url: "http://x", secret: "x" }));
    const died = { code: "data-plane-died" };
    await expect(outgoing.send(null, ignore)).rejects.toMatchObject(died);
    await expect(dying.open(outgoingSpec(side(), { url: "", secret: "" }))).rejects.toMatchObject(
      died,
    );
    await outgoing.close();
    await dying.close();
  });

  it("keeps to a limit, which takes effect at once", async () => {
    const a = side({ ramPages: 4096, unbackedPages: 0 });
    new Uint32Array(a.bytes.buffer, a.bytes.byteOffset, a.bytes.length / 4).fill(7);
    const { outgoing } = await world(a, side({ ramPages: 4096, unbackedPages: 0 }), {
      bandwidthBytesPerSecond: 1000,
    });
    const start = systemClock.monotonicMs();
    const sending = outgoing.send(null, ignore);
    await systemClock.sleep(200);
    outgoing.limit(16 * 2 ** 20);
    await sending;
    // 16 MiB at 16 MiB/s; a first frame of each channel is free.
    expect(systemClock.monotonicMs() - start).toBeGreaterThan(800);
    // At this rate it would take hours; the test would run out of time.
    outgoing.limit(1000);
    const unlimited = outgoing.send(null, ignore);
    await systemClock.sleep(100);
    outgoing.limit(0);
    await unlimited;
  });

  it("closes in the middle of a round", async () => {
    const a = side({ ramPages: 4096, unbackedPages: 0 });
    a.bytes.fill(1);
    const { outgoing, incoming } = await world(a, side({ ramPages: 4096 }), {
      bandwidthBytesPerSecond: 1000,
    });
    const sending = outgoing.send(null, ignore).catch((error: unknown) => error);
    await systemClock.sleep(100);
    await outgoing.close();
    expect(await sending).toMatchObject({ code: "stream-closed" });
    await incoming.close();
  });

  it("speaks TLS with the pinned certificate, and with no other", async () => {
    const a = side();
    const b = side();
    fill(a, 4n);
    const source = await plane();
    const target = await plane({ tls: { certificate: CERTIFICATE, key: KEY } });
    const incoming = await target.accept(incomingSpec(b));
    expect(incoming.url).toMatch(/^https:/);
    const to = (certificatePin: string | null) =>
      source.open(
        outgoingSpec(a, incoming, { trust: { peer: "host-b", certificatePin, ca: null } }),
      );
    const wrong = await to(PIN.replace(/^../, "00"));
    await expect(wrong.send(null, ignore)).rejects.toMatchObject({ code: "peer-certificate" });
    // No pin: the system's authorities, of which none has signed this one.
    const none = await to(null);
    await expect(none.send(null, ignore)).rejects.toMatchObject({ code: "peer-certificate" });
    const right = await to(PIN);
    await right.send(null, ignore);
    expect(isSame(a, b)).toBe(true);
  });

  it("speaks TLS with what an authority of one's own has signed, for this host", async () => {
    const [a, b] = [side(), side()];
    fill(a, 4n);
    const source = await plane();
    const open = async (tls: object, to: Side, ca: string) => {
      const target = await plane({ tls });
      const trust = { peer: "host-b", certificatePin: null, ca: fixture(ca) };
      return source.open(outgoingSpec(a, await target.accept(incomingSpec(to)), { trust }));
    };
    const right = await open(HOST, b, "authority.pem");
    await right.send(null, ignore);
    expect(isSame(a, b)).toBe(true);
    const refusals: readonly [object, string, RegExp][] = [
      [HOST, "another-authority.pem", /^Peer host-b at 127\.0\.0\.1:.* no authority of its caFile/],
      [ELSEWHERE, "authority.pem", /^Peer host-b .* is for another host: .*127\.0\.0\.1/],
    ];
    for (const [tls, ca, message] of refusals) {
      const wrong = await open(tls, side(), ca);
      const beganMs = systemClock.monotonicMs();
      const refused = {
        ...{ code: "peer-certificate", isTransient: false, isAnswer: false },
        message: expect.stringMatching(message),
      };
      await expect(wrong.send(null, ignore)).rejects.toMatchObject(refused);
      // Post-copy may be taken up again, when the certificate is another; so it looks again.
      await expect(wrong.push(null, ignore)).rejects.toMatchObject(refused);
      expect(systemClock.monotonicMs() - beganMs).toBeLessThan(SETTINGS.giveUpMs / 2);
    }
  });

  it("brings pages that a thread waits for", async () => {
    const shape = { ramPages: 20_000, unbackedPages: 0 };
    const [a, b] = [side(shape), side(shape)];
    new Uint32Array(a.bytes.buffer, a.bytes.byteOffset, a.bytes.length / 4).forEach((_, i, all) => {
      all[i] = i + 1;
    });
    const source = await plane();
    const target = await plane();
    const wake = new Int32Array(new SharedArrayBuffer(4));
    const incoming = await target.accept(incomingSpec(b, { wake }));
    const proxy = await CuttingProxy.start(incoming.url);
    open.push(proxy);
    const outgoing = await source.open(outgoingSpec(a, { ...incoming, url: proxy.url }));
    const bitmap = new Uint8Array(2500).fill(255);
    const left = { blocks: [{ object: 1, pages: 20_000, bitmap }], pages: 20_000 };
    await outgoing.discard(left);
    outgoing.limit(2 ** 20);
    // A VM's thread: asks in the ring, waits on the page's word, checks what it finds.
    const vcpu = new Worker(
      `const { parentPort, workerData } = require("node:worker_threads");
       const { present, requests, words, file } = workerData;
       import(file).then(({ PageRequests }) => {
         const ring = new PageRequests(requests);
         let waitedMs = 0;
         for (let i = 0; i < 40; i++) {
           const page = (i * 7919) % 20000;
           const word = page >> 5;
           const start = performance.now();
           ring.ask(1, page);
           for (;;) {
             const is = Atomics.load(present, word);
             if ((is >>> (page & 31)) & 1) break;
             Atomics.wait(present, word, is, 1000);
           }
           waitedMs = Math.max(waitedMs, performance.now() - start);
           if (words[page * 1024] !== page * 1024 + 1) throw new Error("page " + page);
         }
         parentPort.postMessage(waitedMs);
       });`,
      {
        eval: true,
        workerData: {
          present: incoming.present.get(1),
          requests: incoming.requests,
          words: new Uint32Array(b.bytes.buffer, b.bytes.byteOffset, b.bytes.length / 4),
          file: new URL("../../../../dist/base/page-requests.js", import.meta.url).href,
        },
      },
    );
    const waited = new Promise((resolve, reject) => {
      vcpu.once("message", resolve);
      vcpu.once("error", reject);
    });
    const pushing = outgoing.push(left, ignore);
    await systemClock.sleep(50);
    proxy.cut();
    // In order and at this rate the last of them would come after more than a minute.
    expect(await waited).toBeLessThan(20_000);
    expect(wake[0]).toBeGreaterThan(0);
    outgoing.limit(0);
    const sent = await pushing;
    expect(sent.pagesRequested).toBeGreaterThan(20);
    expect(isSame(a, b)).toBe(true);
  });

  it("takes so many sessions, each name once", async () => {
    const target = await plane({ sessionsMax: 2 });
    const first = await target.accept(incomingSpec(side(), { session: "a" }));
    const again = target.accept(incomingSpec(side(), { session: "a" }));
    await expect(again).rejects.toMatchObject({ code: "session-exists" });
    await target.accept(incomingSpec(side(), { session: "b" }));
    const third = target.accept(incomingSpec(side(), { session: "c" }));
    await expect(third).rejects.toMatchObject({ code: "data-plane-busy", isTransient: true });
    await first.close();
    await target.accept(incomingSpec(side(), { session: "c" }));
  });
});

let flag = new SharedArrayBuffer(8);

function flagOf(): SharedArrayBuffer {
  flag = new SharedArrayBuffer(8);
  return flag;
}

async function stop(writer: Worker): Promise<void> {
  Atomics.store(new Int32Array(flag), 0, 1);
  await new Promise((resolve) => writer.once("exit", resolve));
}

/** A request of a stranger. */
async function ask(url: string, secret: string, init: RequestInit & { duplex?: "half" } = {}) {
  const headers = { authorization: `Bearer ${secret}`, ...(init.headers as object) };
  const answer = await fetch(url, { ...init, headers });
  const text = await answer.text();
  return { status: answer.status, type: answer.headers.get("content-type"), text };
}

describe("the data plane's listener", () => {
  const binary = { "content-type": "application/octet-stream" };

  it("refuses with problem+json what isn't a request for a stream", async () => {
    const target = await plane();
    const { url, secret } = await target.accept(incomingSpec(side()));
    const channel = `${url}/v1/streams/mig_1/channels/0`;
    const rows: [string, number, string, string, RequestInit?][] = [
      [`${url}/`, 404, "stream-not-found", secret],
      [channel, 401, "stream-unauthorized", "wrong"],
      [`${url}/v1/streams/other/channels/0`, 401, "stream-unauthorized", secret],
      [`${url}/v1/streams/mig_1/channels/2`, 422, "stream-channel", secret],
      [channel, 405, "stream-method", secret, { method: "DELETE" }],
      [channel, 415, "stream-media-type", secret, { method: "POST", body: "x" }],
      [
        `${channel}?offset=-1`,
        400,
        "stream-request",
        secret,
        { method: "POST", body: "x", headers: binary },
      ],
      [
        `${channel}?offset=5`,
        409,
        "stream-offset",
        secret,
        { method: "POST", body: "x", headers: binary },
      ],
    ];
    for (const [where, status, code, token, init] of rows) {
      const answer = await ask(where, token, init);
      expect(answer.status, where).toBe(status);
      expect(answer.type).toBe("application/problem+json");
      expect(JSON.parse(answer.text)).toMatchObject({ status, code });
    }
    const answer = await ask(channel, secret);
    expect(JSON.parse(answer.text)).toEqual({ offset: 0, frame: 0 });
  });

  it("refuses garbage, and goes on serving", async () => {
    const a = side();
    const b = side();
    fill(a, 8n);
    const target = await plane();
    const source = await plane();
    const incoming = await target.accept(incomingSpec(b));
    const junk = await target.accept(incomingSpec(side(), { session: "junk" }));
    const prng = new Prng(6n);
    for (let i = 0; i < 20; i++) {
      const bytes = Uint8Array.from({ length: 1 + prng.below(5000) }, () => prng.u32());
      const answer = await ask(`${junk.url}/v1/streams/junk/channels/0`, junk.secret, {
        method: "POST",
        body: bytes,
        headers: binary,
      });
      const last = answer.text.trim().split("\n").at(-1)!;
      expect(JSON.parse(last)).toMatchObject({ code: "stream-foreign" });
    }
    // Not even HTTP, and a request that never ends.
    const { port } = new URL(incoming.url);
    for (const text of ["\0\0\0nonsense\r\n\r\n", "GET /v1/streams HTTP/1.1\r\nx: "]) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", ignore);
      socket.write(text);
      await systemClock.sleep(20);
      socket.destroy();
    }
    const outgoing = await source.open(outgoingSpec(a, incoming));
    await outgoing.send(null, ignore);
    expect(isSame(a, b)).toBe(true);
  });

  /** What comes back until the connection ends, or for half a second. */
  async function raw(url: string, lines: readonly string[], more: Uint8Array[] = []) {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    let text = "";
    socket.on("error", ignore);
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
    });
    socket.write([...lines, "", ""].join("\r\n"));
    for (const bytes of more) {
      await systemClock.sleep(50);
      socket.write(bytes);
    }
    await Promise.race([
      new Promise((ended) => socket.once("close", ended)),
      systemClock.sleep(500),
    ]);
    socket.destroy();
    return text;
  }

  it("upgrades a channel, and nothing else", async () => {
    const target = await plane();
    const { url, secret } = await target.accept(incomingSpec(side()));
    const head = (path: string, over: object = {}) => {
      const headers = {
        host: "x",
        authorization: `Bearer ${secret}`,
        connection: "upgrade",
        upgrade: "tidemark-pages",
        "content-type": "application/octet-stream",
        "content-length": "0",
        ...over,
      };
      const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
      return [`POST /v1/streams/mig_1/${path} HTTP/1.1`, ...fields];
    };
    const refusals: [readonly string[], number, string][] = [
      [head("channels/0", { authorization: "Bearer no" }), 401, "stream-unauthorized"],
      [head("channels/9"), 422, "stream-channel"],
      [head("demands"), 400, "stream-request"],
      [head("channels/0", { upgrade: "websocket" }), 400, "stream-request"],
      [head("channels/0", { "content-type": "text/plain" }), 415, "stream-media-type"],
      [head("channels/0?offset=9"), 409, "stream-offset"],
    ];
    for (const [lines, status, code] of refusals) {
      const text = await raw(url, lines);
      expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      expect(JSON.parse(text.split("\r\n\r\n")[1]!)).toMatchObject({ status, code });
    }
    const early = await raw(url, [...head("channels/0"), "", "TIDEPAGE"]);
    expect(early).toMatch(/^HTTP\/1.1 400 /);
    const junk = await raw(url, head("channels/0"), [
      Buffer.from("no stream"),
      Buffer.from("more"),
    ]);
    expect(junk).toMatch(/^HTTP\/1.1 101 /);
    expect(JSON.parse(junk.split("\r\n\r\n")[1]!)).toMatchObject({ code: "stream-foreign" });
  });

  it.each([
    ["clear text", null],
    ["TLS", HOST],
  ])("counts upgraded connections among those that it takes, each once: %s", async (_, tls) => {
    const [a, b] = [side(), side()];
    fill(a, 3n);
    const [source, target] = [await plane(), await plane({ connectionsMax: 4, tls })];
    const incoming = await target.accept(incomingSpec(b));
    const trust = { peer: "b", certificatePin: null, ca: fixture("authority.pem") };
    const outgoing = await source.open(outgoingSpec(a, incoming, { trust }));
    await outgoing.send(null, ignore);
    const port = Number(new URL(incoming.url).port);
    const strangers = async () => {
      const sockets = [0, 1, 2, 3].map(() => connect(port, "127.0.0.1").on("error", ignore));
      await systemClock.sleep(200);
      const alive = sockets.filter((socket) => socket.readyState === "open").length;
      for (const socket of sockets) socket.destroy();
      await systemClock.sleep(50);
      return alive;
    };
    expect(await strangers()).toBe(3);
    await outgoing.close();
    await systemClock.sleep(100);
    expect(await strangers()).toBe(4);
  });

  it("does nothing when the same bytes come again", async () => {
    const a = side();
    const b = side();
    fill(a, 8n);
    const { outgoing, incoming } = await world(a, b, { channels: 2 });
    await outgoing.send(null, ignore);
    const before = await incoming.digest();
    const channel = `${incoming.url}/v1/streams/mig_1/channels/0`;
    const late = await ask(`${channel}?offset=0`, incoming.secret, {
      method: "POST",
      body: new Uint8Array(64),
      headers: binary,
    });
    expect(late.status).toBe(409);
    // The one that was feeding it still does.
    a.bytes.fill(3, 0, 4096);
    await outgoing.send(null, ignore);
    expect(isSame(a, b)).toBe(true);
    expect(await incoming.digest()).not.toBe(before);
  });
});

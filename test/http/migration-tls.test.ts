// Goal: with certificates both ports speak TLS, and a VM moves between hosts that know each other's
// by its digest or by an authority of their own; a host with another certificate gets nothing.
// Method: compiled hosts in this process, driven past their ports; only they speak TLS. A proxy
// stands before one's pages: at its port, at the address that the others have for it.
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createHost, type Host } from "../../dist/app.js";
import { loadConfig } from "../../dist/config.js";
import { guestImage } from "../support/board.js";
import { CuttingProxy } from "../support/cutting-proxy.js";
import { freePort, temporary } from "../support/real-service.js";
import { until } from "../support/two-hosts.js";

type Json = Record<string, unknown>;

const LONG_MS = 120_000;
/** By its make.sh: host.pem and elsewhere.pem are of authority.pem, certificate.pem its own. */
const fixture = (name: string) =>
  fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
const pinOf = (name: string) => new X509Certificate(readFileSync(fixture(name))).fingerprint256;
const AUTHORITY = { caFile: fixture("authority.pem") };

let folder: { path: string; remove(): Promise<void> };
const hosts: Host[] = [];

async function open(
  name: string,
  port: number,
  tls: { readonly certificate: string; readonly key: string },
  peers: readonly object[],
  env: Readonly<Record<string, string>> = {},
): Promise<Host> {
  const file = join(folder.path, `${name}.json`);
  writeFileSync(file, JSON.stringify(peers));
  const config = loadConfig({
    ...{ HOST: "127.0.0.1", PORT: String(port), DATA_DIR: join(folder.path, name) },
    ...{ LOG_LEVEL: "silent", INSTANCE_NAME: name, PEERS_FILE: file, OVERLOAD_DELAY_MS: "0" },
    ...{ TLS_CERT: fixture(tls.certificate), TLS_KEY: fixture(tls.key), ...env },
  });
  const host = await createHost(config);
  hosts.push(host);
  const address = await host.app.listen({ host: config.host, port });
  expect(address).toMatch(/^https:/);
  return host;
}

let a: Host;
let b: Host;
let c: Host;
/** Before b's pages. */
let way: CuttingProxy;

beforeAll(async () => {
  folder = await temporary("tls");
  const pages = { DATA_PLANE_HOST: "127.0.0.2", DATA_PLANE_PORT: String(await freePort()) };
  const port = Number(pages.DATA_PLANE_PORT);
  way = await CuttingProxy.start(`https://${pages.DATA_PLANE_HOST}:${port}`, port);
  const [atA, atB, atC] = [await freePort(), await freePort(), await freePort()];
  const url = (port: number) => `https://127.0.0.1:${port}`;
  const pinned = { url: url(atB), certificatePin: pinOf("host.pem") };
  const another = { caFile: fixture("another-authority.pem") };
  a = await open("a", atA, { certificate: "certificate.pem", key: "key.pem" }, [
    { name: "b", ...pinned },
    { name: "impostor", ...pinned, certificatePin: "0".repeat(64) },
    { name: "b-by-authority", url: url(atB), ...AUTHORITY },
    { name: "b-by-another", url: url(atB), ...another },
    { name: "b-by-system", url: url(atB) },
    { name: "elsewhere", url: url(atC), ...AUTHORITY },
  ]);
  const toA = { name: "a", url: url(atA), certificatePin: pinOf("certificate.pem") };
  b = await open("b", atB, { certificate: "host.pem", key: "host-key.pem" }, [toA], pages);
  c = await open("c", atC, { certificate: "elsewhere.pem", key: "elsewhere-key.pem" }, []);
}, LONG_MS);
afterAll(async () => {
  await way.close();
  for (const host of hosts) await host.close();
  await folder.remove();
});

async function call(
  host: Host,
  method: "GET" | "PATCH" | "POST" | "PUT",
  url: string,
  body?: object,
) {
  const isBytes = body instanceof Uint8Array;
  const payload = isBytes ? Buffer.from(body) : body;
  const json = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const type = isBytes ? "application/octet-stream" : json;
  const answer = await host.app.inject({
    ...{ method, url },
    ...(payload === undefined ? {} : { payload, headers: { "content-type": type } }),
  });
  return { status: answer.statusCode, body: (answer.body === "" ? {} : answer.json()) as Json };
}

async function boot(host: Host): Promise<Json> {
  await call(host, "PUT", "/v1/images/hello", guestImage("hello"));
  const board = { image: "hello", memoryMiB: 8 };
  const { body: vm } = await call(host, "POST", "/v1/vms", { board });
  await call(host, "POST", `/v1/vms/${vm["id"]}:start`);
  return vm;
}

/** @returns the migration once it has ended */
async function move(host: Host, vm: Json, peer: string): Promise<Json> {
  const asked = { vmId: vm["id"], peer, parameters: { verify: true, channels: 2 } };
  const { body } = await call(host, "POST", "/v1/migrations", asked);
  return (await call(host, "GET", `/v1/migrations/${body["id"]}?wait=60`)).body;
}

async function expectThere(host: Host, vm: Json): Promise<void> {
  const { items } = (await call(host, "GET", "/v1/vms")).body as { items: Json[] };
  const { uuid } = vm;
  expect(items.filter((one) => one["uuid"] === uuid && one["state"] === "active")).toHaveLength(1);
}

/** A dry run and a migration say why, and try it once each; the VM stays. */
async function expectRefused(peer: string, why: RegExp): Promise<void> {
  const vm = await boot(a);
  const { server } = (peer === "elsewhere" ? c : b).app;
  let connections = 0;
  const count = (): void => {
    connections += 1;
  };
  server.on("connection", count);
  const dry = { vmId: vm["id"], peer, validateOnly: true };
  const refused = await call(a, "POST", "/v1/migrations", dry);
  expect([refused.status, refused.body["code"]]).toEqual([409, "peer-certificate"]);
  expect(refused.body["detail"]).toMatch(why);
  const failed = await move(a, vm, peer);
  expect(failed).toMatchObject({
    state: "failed",
    failure: { side: "wire", code: "peer-certificate", during: "setup" },
  });
  expect((failed["failure"] as Json)["detail"]).toMatch(why);
  server.off("connection", count);
  expect(connections).toBe(2);
  await expectThere(a, vm);
}

describe("a VM", () => {
  it.each(["b", "b-by-authority"])(
    "moves over TLS to a host that shows what is asked for: %s",
    async (peer) => {
      const vm = await boot(a);
      const ended = await move(a, vm, peer);
      expect([ended["failure"], ended["state"]]).toEqual([null, "completed"]);
      await expectThere(b, vm);
    },
    LONG_MS,
  );

  it(
    "moves within a host whose certificate nobody vouches for",
    async () => {
      const vm = await boot(a);
      const ended = await move(a, vm, "local");
      expect([ended["failure"], ended["state"]]).toEqual([null, "completed"]);
      await expectThere(a, vm);
    },
    LONG_MS,
  );

  it.each([
    ["impostor", /^Peer impostor .* shows the certificate [0-9a-f]{64}, .* is not the pinned one/],
    ["b-by-another", /^Peer b-by-another .* no authority of its caFile vouches for/],
    ["b-by-system", /^Peer b-by-system .* none of the system's authorities vouches for/],
    ["elsewhere", /^Peer elsewhere .* is for another host: .*127\.0\.0\.1/],
  ])("stays when the other host shows another certificate: %s", expectRefused, LONG_MS);

  it(
    "that runs there waits for its pages while somebody else answers, and gets them by :recover",
    async () => {
      const vm = await boot(a);
      // Nothing is asked for past the limit, and the last page would take minutes.
      await call(a, "POST", `/v1/vms/${vm["id"]}:pause`);
      const parameters = { postcopyBandwidthBytesPerSecond: 1000 };
      const asked = { vmId: vm["id"], peer: "b", strategy: "post-copy", parameters };
      const { body } = await call(a, "POST", "/v1/migrations", asked);
      const path = `/v1/migrations/${body["id"]}`;
      const reached = (...states: string[]): Promise<Json> =>
        until(async () => {
          const found = (await call(a, "GET", path)).body;
          return states.includes(String(found["state"])) ? found : null;
        }, `was ${states}`);
      await reached("postcopy-active");
      const keys = { cert: fixture("elsewhere.pem"), key: fixture("elsewhere-key.pem") };
      const impostor = createServer(
        { cert: readFileSync(keys.cert), key: readFileSync(keys.key) },
        (socket) => socket.destroy(),
      );
      await new Promise<void>((resolve) => impostor.listen(0, "127.0.0.1", resolve));
      const right = way.target;
      way.target = new URL(`https://127.0.0.1:${(impostor.address() as AddressInfo).port}`);
      way.cut();
      const paused = await reached("postcopy-paused", "failed", "completed");
      expect(paused).toMatchObject({
        state: "postcopy-paused",
        failure: { side: "wire", code: "peer-certificate", during: "postcopy-active" },
      });
      way.target = right;
      impostor.close();
      await call(a, "PATCH", path, { postcopyBandwidthBytesPerSecond: 0 });
      expect((await call(a, "POST", `${path}:recover`)).status).toBe(200);
      const ended = await reached("completed", "failed");
      expect([ended["state"], ended["failure"]]).toEqual(["completed", null]);
      await expectThere(b, vm);
    },
    LONG_MS,
  );
});

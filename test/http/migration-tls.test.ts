// Goal: with certificates both ports speak TLS, and a VM moves between hosts that know each other's
// by its digest; a host with another certificate gets nothing.
// Method: two compiled hosts in this process, driven past their ports; only they speak TLS.
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createHost, type Host } from "../../dist/app.js";
import { loadConfig } from "../../dist/config.js";
import { guestImage } from "../support/board.js";
import { freePort, temporary } from "../support/real-service.js";

type Json = Record<string, unknown>;

const LONG_MS = 120_000;
const certificate = fileURLToPath(new URL("../fixtures/tls/certificate.pem", import.meta.url));
const key = fileURLToPath(new URL("../fixtures/tls/key.pem", import.meta.url));
const pin = new X509Certificate(readFileSync(certificate)).fingerprint256;

let folder: { path: string; remove(): Promise<void> };
const hosts: Host[] = [];

async function open(name: string, port: number, peers: readonly object[]): Promise<Host> {
  const file = join(folder.path, `${name}.json`);
  writeFileSync(file, JSON.stringify(peers));
  const config = loadConfig({
    ...{ HOST: "127.0.0.1", PORT: String(port), DATA_DIR: join(folder.path, name) },
    ...{ LOG_LEVEL: "silent", INSTANCE_NAME: name, PEERS_FILE: file, OVERLOAD_DELAY_MS: "0" },
    ...{ TLS_CERT: certificate, TLS_KEY: key },
  });
  const host = await createHost(config);
  hosts.push(host);
  const address = await host.app.listen({ host: config.host, port });
  expect(address).toMatch(/^https:/);
  return host;
}

let a: Host;
let b: Host;

beforeAll(async () => {
  folder = await temporary("tls");
  const [atA, atB] = [await freePort(), await freePort()];
  const url = (port: number) => `https://127.0.0.1:${port}`;
  const known = { name: "b", url: url(atB), certificatePin: pin };
  const impostor = { name: "impostor", url: url(atB), certificatePin: "0".repeat(64) };
  a = await open("a", atA, [known, impostor]);
  b = await open("b", atB, [{ name: "a", url: url(atA), certificatePin: pin }]);
}, LONG_MS);
afterAll(async () => {
  for (const host of hosts) await host.close();
  await folder.remove();
});

async function call(host: Host, method: "GET" | "POST" | "PUT", url: string, body?: object) {
  const isBytes = body instanceof Uint8Array;
  const payload = isBytes ? Buffer.from(body) : body;
  const type = isBytes ? "application/octet-stream" : "application/json";
  const answer = await host.app.inject({
    ...{ method, url },
    ...(payload === undefined ? {} : { payload, headers: { "content-type": type } }),
  });
  return { status: answer.statusCode, body: (answer.body === "" ? {} : answer.json()) as Json };
}

it(
  "moves a VM over pinned TLS, and to no other",
  async () => {
    await call(a, "PUT", "/v1/images/hello", guestImage("hello"));
    const board = { image: "hello", memoryMiB: 8 };
    const { body: vm } = await call(a, "POST", "/v1/vms", { board });
    await call(a, "POST", `/v1/vms/${vm["id"]}:start`);
    const dry = { vmId: vm["id"], peer: "impostor", validateOnly: true };
    const refused = await call(a, "POST", "/v1/migrations", dry);
    expect([refused.status, refused.body["code"]]).toEqual([503, "peer-unreachable"]);
    expect(refused.body["detail"]).toContain("is not the pinned one");
    const parameters = { verify: true, channels: 2 };
    const { body } = await call(a, "POST", "/v1/migrations", {
      ...dry,
      peer: "b",
      parameters,
      validateOnly: false,
    });
    const ended = await call(a, "GET", `/v1/migrations/${body["id"]}?wait=60`);
    expect([ended.body["failure"], ended.body["state"]]).toEqual([null, "completed"]);
    const { items } = (await call(b, "GET", "/v1/vms")).body as { items: Json[] };
    expect(items).toMatchObject([{ uuid: vm["uuid"], state: "active" }]);
  },
  LONG_MS,
);

// Owns: the HTTP face on a real socket over fake services; every answer is checked against the
// document. One per test file.
import type { AddressInfo } from "node:net";
import supertest, { type Test } from "supertest";
import type { Api } from "../../src/api/index.js";
import { type ApiOptions, buildApi, createLogger } from "../../src/api/index.js";
import { systemClock } from "../../src/base/clock.js";
import { Contract } from "./contract.js";
import { type FakeControl, fakeServices } from "./fake-services.js";

export const OPTIONS: ApiOptions = {
  version: "0.0.0-test",
  tokens: null,
  rateLimitPerMinute: 0,
  overloadDelayMs: 0,
  jsonBodyBytes: 1024 * 1024,
  binaryBodyBytes: 4 * 1024 * 1024,
  defaultSeed: 1n,
  heartbeatMs: 50,
};

type Method = "get" | "put" | "post" | "patch" | "delete";

export interface Face {
  readonly api: Api;
  readonly control: FakeControl;
  readonly contract: Contract;
  readonly origin: string;
  readonly port: number;
  /** Lines that were logged. */
  readonly lines: string[];
  /** A request whose answer is checked against the document. */
  call(method: Method, url: string): Test;
  /** A fresh active VM. @returns its path */
  vm(body?: object): Promise<string>;
  close(): Promise<void>;
}

export async function openFace(options: Partial<ApiOptions> = {}): Promise<Face> {
  const { services, control } = fakeServices();
  const lines: string[] = [];
  const log = createLogger("debug", { write: (line) => void lines.push(line) });
  const api = buildApi({
    options: { ...OPTIONS, ...options },
    services,
    clock: systemClock,
    log,
  });
  await api.app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = api.app.server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  const document = JSON.parse((await supertest(origin).get("/openapi.json")).text) as object;
  const contract = new Contract(document as Readonly<Record<string, unknown>>);
  const call = (method: Method, url: string): Test =>
    supertest(origin)
      [method](url)
      .expect((answer) => contract.check(method, url, answer));
  return {
    api,
    control,
    contract,
    origin,
    port,
    lines,
    call,
    vm: async (body = {}) => {
      const answer = await call("post", "/v1/vms").send(body).expect(201);
      return String(answer.headers["location"]);
    },
    close: () => api.app.close(),
  };
}

/** Sends a message as it stands and collects what comes back until the peer closes. */
export function sendRaw(port: number, text: string, halfClose = false): Promise<string> {
  return new Promise((resolve, reject) => {
    import("node:net").then(({ connect }) => {
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
        socket.write(text);
        if (halfClose) socket.end();
      });
      let answer = "";
      socket.on("data", (chunk: Buffer) => {
        answer += chunk.toString("latin1");
      });
      socket.on("end", () => {
        socket.end();
        resolve(answer);
      });
      socket.on("error", reject);
      socket.setTimeout(3000, () => socket.destroy(new Error(`no end: ${answer}`)));
    }, reject);
  });
}

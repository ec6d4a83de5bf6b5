// Goal: tokens and their scopes, rate limits, and the refusal to start unprotected.
// Method: supertest over fake services with tokens; configuration from given environments.
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readTokens, refuseIfSlow } from "../../src/api/index.js";
import { ConfigError, isLoopback, loadConfig } from "../../src/config.js";
import { type Face, openFace } from "../support/http.js";

const sha = (text: string) => createHash("sha256").update(text).digest("hex");
const FILE = `
# comment
reader host:read,vm:read,events:read ${sha("read-me")}
writer vm:read,vm:write ${sha("write-me")}
admin * ${sha("rule-me")}
`;

describe("tokens", () => {
  let face: Face;
  beforeAll(async () => {
    face = await openFace({ tokens: readTokens(FILE) });
  });
  afterAll(() => face.close());

  const as = (token: string) => ({ authorization: `Bearer ${token}` });

  it("asks for a token, but not for health, documents and problems", async () => {
    const answer = await face.call("get", "/v1/host");
    expect(answer.body).toMatchObject({ status: 401, code: "unauthorized" });
    expect(answer.headers["www-authenticate"]).toBe('Bearer realm="tidemark"');
    for (const path of ["/livez", "/readyz", "/version", "/problems", "/openapi.json"]) {
      await face.call("get", path).expect(200);
    }
    expect((await fetch(`${face.origin}/docs`)).status).toBe(200);
    await face.call("get", "/metrics").expect(401);
  });

  it.each([
    ["Basic abc", 401],
    ["Bearer", 401],
    ["Bearer nope", 401],
    ["Bearer read-me2", 401],
    ["bearer read-me", 200],
    ["Bearer read-me", 200],
  ])("takes %s for %i", async (authorization, status) => {
    await face.call("get", "/v1/host").set({ authorization }).expect(status);
  });

  it("holds each to its scopes", async () => {
    await face.call("post", "/v1/vms").set(as("write-me")).expect(201);
    const refused = await face.call("post", "/v1/vms").set(as("read-me"));
    expect(refused.body).toMatchObject({
      status: 403,
      code: "insufficient-scope",
      scope: "vm:write",
    });
    expect(refused.headers["www-authenticate"]).toContain('scope="vm:write"');
    await face.call("get", "/v1/events").set(as("write-me")).expect(403);
    await face.call("get", "/metrics").set(as("rule-me")).expect(200);
  });

  it("refuses before it looks at the body", async () => {
    await face.call("post", "/v1/vms").type("application/json").send("{nope").expect(401);
  });

  it("keeps the keys of different tokens apart", async () => {
    const post = (token: string, name: string) =>
      face.call("post", "/v1/vms").set(as(token)).set("idempotency-key", "same").send({ name });
    await post("write-me", "a").expect(201);
    await post("rule-me", "b").expect(201);
    await post("rule-me", "c").expect(422);
  });

  it("logs the token's name, never the token", async () => {
    await face.call("delete", "/v1/vms/nobody").set(as("rule-me")).expect(404);
    const log = face.lines.join("");
    expect(log).toContain('"principal":"admin"');
    expect(log).not.toContain("rule-me");
    expect(log).not.toContain(sha("rule-me"));
  });
});

describe("token file", () => {
  it.each([
    ["", "no token"],
    ["name scope", "line 1"],
    [`a nope:read ${sha("x")}`, 'unknown scope "nope:read"'],
    [`\n# x\na vm:read ${sha("x").slice(1)}`, "line 3"],
  ])("refuses %j", (text, sentence) => {
    expect(() => readTokens(text)).toThrow(sentence);
  });
});

describe("rate limit", () => {
  let face: Face;
  beforeAll(async () => {
    face = await openFace({ rateLimitPerMinute: 20 });
  });
  afterAll(() => face.close());

  it("answers 429 with Retry-After, heavy routes first, health never", async () => {
    for (let i = 0; i < 2; i++) await face.call("post", "/v1/vms").expect(201);
    const heavy = await face.call("post", "/v1/vms");
    expect(heavy.body).toMatchObject({ status: 429, code: "rate-limited" });
    expect(Number(heavy.headers["retry-after"])).toBeGreaterThan(0);
    let last = 0;
    for (let i = 0; i < 30; i++) last = (await face.call("get", "/v1/host")).status;
    expect(last).toBe(429);
    await face.call("get", "/v1/vms").expect(429);
    for (let i = 0; i < 30; i++) await face.call("get", "/livez").expect(200);
  });
});

describe("configuration", () => {
  it("has a default for everything", () => {
    const config = loadConfig({});
    expect(config).toMatchObject({
      host: "127.0.0.1",
      port: 8080,
      dataDir: "./data",
      logLevel: "info",
      tokensFile: null,
      rateLimitPerMinute: 0,
      seed: 1n,
    });
    expect(config.memoryBudgetBytes).toBeGreaterThan(0);
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("reads what is set", () => {
    const config = loadConfig({ PORT: "9", MEMORY_BUDGET_MIB: "64", SEED: "0xff", HOME: "/x" });
    expect(config).toMatchObject({ port: 9, memoryBudgetBytes: 64 * 2 ** 20, seed: 255n });
  });

  it("refuses another address than loopback without tokens, in one sentence", () => {
    expect(() => loadConfig({ HOST: "0.0.0.0" })).toThrow(ConfigError);
    expect(() => loadConfig({ HOST: "0.0.0.0" })).toThrow(/TOKENS_FILE must name a file/);
    const config = loadConfig({ HOST: "0.0.0.0", TOKENS_FILE: "x" });
    expect(config.rateLimitPerMinute).toBe(6000);
    for (const host of ["127.0.0.1", "127.8.0.1", "::1", "localhost"]) {
      expect(isLoopback(host), host).toBe(true);
    }
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.evil.example"]) {
      expect(isLoopback(host), host).toBe(false);
    }
  });

  it.each([{ PORT: "http" }, { PORT: "65536" }, { LOG_LEVEL: "loud" }, { SEED: "-1" }])(
    "refuses %j",
    (env) => {
      expect(() => loadConfig(env)).toThrow(ConfigError);
    },
  );
});

describe("overload", () => {
  it("refuses when the event loop lags", () => {
    expect(() => refuseIfSlow(2000)).toThrow(/too slowly/);
  });

  it("takes a delay that nobody sampled for no news", () => {
    expect(() => refuseIfSlow(Number.POSITIVE_INFINITY)).not.toThrow();
  });
});

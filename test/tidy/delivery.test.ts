// Owns: checks on what carries the service elsewhere: image, compose, CI, environment.
// Test process.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { findToken, readTokens } from "../../src/api/auth.js";
import { ENVIRONMENT } from "../../src/config.js";
import { composeFaults, dockerfileFaults, peerFaults, publishedAt } from "./image-rules.js";
import { ROOT, read } from "./tree.js";

const exists = (path: string): boolean => existsSync(join(ROOT, path));
const dockerfile = read("Dockerfile");
const compose = read("docker-compose.yml");

describe("Dockerfile", () => {
  it("is sound", () => {
    expect(dockerfileFaults(dockerfile, exists)).toEqual([]);
  });

  it("names the headers before it compiles", () => {
    const headers = dockerfile.indexOf("npm_config_nodedir=/usr/local");
    expect(headers).toBeGreaterThan(0);
    expect(headers).toBeLessThan(dockerfile.indexOf("RUN npm ci"));
  });

  it("keeps outputs and secrets out of the build", () => {
    const ignored = read(".dockerignore").split("\n");
    expect(ignored).toEqual(
      expect.arrayContaining([".git", "node_modules", "dist", "data", "src/generated", ".env"]),
    );
  });

  it.each([
    ["root", "USER node\n", ""],
    ["root by name", "USER node\n", "USER root\n"],
    ["no health check", "/livez", "/"],
    ["curl", '"node", "-e", "fetch', '"curl", "-f", "fetch'],
    ["shell form", 'CMD ["node", "dist/main.js"]', "CMD node dist/main.js"],
    ["two commands", "USER node\n", 'USER node\nCMD ["true"]\n'],
    ["no version", "node:20-bookworm-slim", "node:latest"],
    ["unknown stage", "--from=build /app/dist", "--from=bild /app/dist"],
    ["missing source", "COPY src ./src", "COPY source ./src"],
    ["install in the image", "USER node\n", "RUN npm ci\nUSER node\n"],
    ["ADD", "COPY src ./src", "ADD src ./src"],
  ])("is refused when planted: %s", (_name, from, to) => {
    expect(dockerfile).toContain(from);
    const planted = dockerfile.replace(from, to);
    expect(dockerfileFaults(planted, (path) => path !== "source")).toHaveLength(1);
  });
});

describe("docker-compose.yml", () => {
  it("is sound", () => {
    expect(composeFaults(compose)).toEqual([]);
  });

  it.each([
    ["published to the world", "127.0.0.1:8082:8080", "8082:8080"],
    ["one port twice", "127.0.0.1:8082:8080", "127.0.0.1:8081:8080"],
    ["no token file", "    TOKENS_FILE: /run/secrets/tokens", "    LOG_LEVEL: info"],
    ["undeclared secret", "secrets: [tokens,", "secrets: [keys,"],
    ["undeclared volume", "host-b: {}", "host-c: {}"],
    ["mistyped key", "healthcheck:", "healthchek:"],
    ["one host", "  host-b:\n    <<", "  host-c:\n    <<"],
  ])("is refused when planted: %s", (_name, from, to) => {
    expect(compose).toContain(from);
    expect(composeFaults(compose.replace(from, to)).length).toBeGreaterThan(0);
  });

  const peers = JSON.parse(read("docs/peers.json"));

  it("has hosts that find each other", () => {
    expect(peerFaults(compose, peers)).toEqual([]);
  });

  it.each([
    ["another name", "INSTANCE_NAME: host-b", "INSTANCE_NAME: host-a"],
    ["another container", "hostname: host-a", "hostname: a"],
    ["no token", "secrets: [tokens, peer-token, peers]", "secrets: [tokens, peers]"],
    ["no list", "PEERS_FILE: /run/secrets/peers", "PEERS_FILE: /run/secrets/others"],
    ["a host without a peer", "  host-b:\n    <<", "  host-c:\n    <<"],
  ])("is refused when planted: %s", (_name, from, to) => {
    expect(compose).toContain(from);
    expect(peerFaults(compose.replace(from, to), peers).length).toBeGreaterThan(0);
  });

  it("is what the examples are for", () => {
    const published = publishedAt(compose);
    const [a, b] = [published["host-a"], published["host-b"]];
    const hosts = parse(read("examples/ansible/hosts.yml"));
    expect([hosts.source, hosts.target]).toEqual([
      { name: "host-a", url: `http://${a}` },
      { name: "host-b", url: `http://${b}` },
    ]);
    const prometheus = parse(read("examples/prometheus/prometheus.yml"));
    expect(prometheus.scrape_configs[0].static_configs).toEqual([{ targets: [a, b] }]);
    const page = read("examples/README.md");
    for (const address of [a, b]) expect(page).toContain(`\`${address}\``);
    const rules = parse(read("examples/prometheus/rules.yml")) as {
      groups: { rules: { alert?: string }[] }[];
    };
    const alerts = rules.groups.flatMap((group) => group.rules.map(({ alert }) => alert));
    const told = [...page.matchAll(/^\| (Tidemark\w+) \|/gm)].map(([, name]) => name);
    expect(told).toEqual(alerts.filter((alert) => alert !== undefined));
  });
});

describe("npm run token", () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-token-"));
  const file = join(folder, "data", "tokens");
  const make = (...args: string[]) =>
    spawnSync(process.execPath, [join(ROOT, "tools/token.mjs"), "--file", file, ...args], {
      encoding: "utf8",
    });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("shows a token whose digest the service knows", () => {
    const all = make().stdout.trim();
    const reader = make("--name", "reader", "--scopes", "vm:read,host:read").stdout.trim();
    const text = readFileSync(file, "utf8");
    expect(text).not.toContain(all);
    const table = readTokens(text);
    expect(findToken(table, all)?.name).toBe("operator");
    expect([...(findToken(table, reader)?.scopes ?? [])]).toEqual(["vm:read", "host:read"]);
    expect(findToken(table, "guess")).toBeNull();
  });

  it("replaces no token and takes no other words", () => {
    expect(make().status).toBe(1);
    expect(make("--name", "a b").status).toBe(2);
    expect(make("--name", "c", "--scopes", "everything").status).toBe(2);
  });
});

describe("continuous integration and environment", () => {
  it("runs a clean install and the README's test command", () => {
    expect(statSync(join(ROOT, ".ci/run")).mode & 0o111).toBe(0o111);
    const lines = read(".ci/run")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines).toEqual(["set -euo pipefail", 'cd "$(dirname "$0")/.."', "npm ci", "npm test"]);
    expect(read("README.md")).toContain("npm ci && npm test");
  });

  it(".env.example names every switch of config.ts with its default", () => {
    const shown = [...read(".env.example").matchAll(/^#?([A-Z][A-Z0-9_]+)=(.*)$/gm)];
    const switches = Object.entries(ENVIRONMENT.properties).map(([name, row]) => [
      name,
      String(row.default),
    ]);
    expect(shown.map((match) => [match[1], match[2]])).toEqual(switches);
  });
});

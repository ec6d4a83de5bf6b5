// Owns: structural rules on Dockerfile and docker-compose.yml. Test process.
// No daemon is needed: the files are read, not run.
import { Ajv } from "ajv";
import { parse } from "yaml";

interface Instruction {
  readonly name: string;
  readonly rest: string;
}

interface Stage {
  readonly name: string;
  readonly image: string;
  readonly body: Instruction[];
}

function instructions(text: string): Instruction[] {
  const joined = text
    .split("\n")
    .filter((line) => !/^\s*#/.test(line))
    .join("\n")
    .replace(/\\\n/g, " ");
  return joined
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", rest = ""] = /^(\S+)\s*(.*)$/.exec(line.trim()) ?? [];
      return { name: name.toUpperCase(), rest };
    });
}

function stages(text: string): Stage[] {
  const found: Stage[] = [];
  for (const one of instructions(text)) {
    const from = one.name === "FROM" ? /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(one.rest) : null;
    if (from !== null) found.push({ image: from[1] ?? "", name: from[2] ?? "", body: [] });
    else found.at(-1)?.body.push(one);
  }
  return found;
}

function copyFaults(stage: Stage, earlier: string[], exists: (path: string) => boolean): string[] {
  return stage.body
    .filter(({ name }) => name === "COPY")
    .flatMap(({ rest }) => {
      const words = rest.split(/\s+/);
      const from = words.find((word) => word.startsWith("--from="))?.slice("--from=".length);
      if (from !== undefined) return earlier.includes(from) ? [] : [`COPY from no stage: ${from}`];
      const sources = words.filter((word) => !word.startsWith("--")).slice(0, -1);
      return sources.filter((path) => !exists(path)).map((path) => `COPY of nothing: ${path}`);
    });
}

/**
 * What is wrong with a Dockerfile.
 * @param exists whether the build context has this path
 */
export function dockerfileFaults(text: string, exists: (path: string) => boolean): string[] {
  const all = stages(text);
  const last = all.at(-1);
  if (last === undefined) return ["no stage"];
  const faults: string[] = [];
  const names: string[] = [];
  for (const stage of all) {
    const own = names.includes(stage.image);
    if (!own && !/:[\w.-]*\d[\w.-]*$/.test(stage.image)) faults.push(`no version: ${stage.image}`);
    faults.push(...copyFaults(stage, names, exists));
    names.push(stage.name);
  }
  const find = (name: string): Instruction[] => last.body.filter((one) => one.name === name);
  const [command, ...more] = find("CMD");
  if (command === undefined || more.length > 0) faults.push("exactly one CMD ends the image");
  if (!command?.rest.startsWith("[")) faults.push("CMD runs through a shell: signals get lost");
  const user = find("USER").at(-1)?.rest ?? "root";
  if (/^(root|0)(:|$)/.test(user)) faults.push("the service runs as root");
  const health = find("HEALTHCHECK")[0]?.rest ?? "";
  if (!health.includes("/livez")) faults.push("no HEALTHCHECK on /livez");
  if (/\b(curl|wget)\b/.test(health)) faults.push("the slim image has neither curl nor wget");
  if (all.length < 2) faults.push("one stage: the compiler ends up in the image");
  if (last.body.some(({ name, rest }) => name === "RUN" && /npm (ci|install)/.test(rest))) {
    faults.push("the last stage installs packages");
  }
  if (all.some(({ body }) => body.some(({ name }) => name === "ADD"))) faults.push("ADD, not COPY");
  return faults;
}

const duration = { type: "string", pattern: "^\\d+(s|m)$" };
const COMPOSE = {
  type: "object",
  required: ["services", "volumes", "secrets"],
  properties: {
    services: {
      type: "object",
      required: ["host-a", "host-b"],
      additionalProperties: {
        type: "object",
        required: ["build", "ports", "volumes", "healthcheck", "environment", "secrets"],
        additionalProperties: false,
        properties: {
          build: { const: "." },
          image: { type: "string" },
          init: { type: "boolean" },
          restart: { enum: ["no", "always", "on-failure", "unless-stopped"] },
          read_only: { type: "boolean" },
          cap_drop: { const: ["ALL"] },
          security_opt: { type: "array", items: { type: "string" } },
          tmpfs: { type: "array", items: { type: "string", pattern: "^/" } },
          hostname: { type: "string" },
          environment: {
            type: "object",
            required: ["TOKENS_FILE", "PEERS_FILE", "INSTANCE_NAME"],
            properties: {
              TOKENS_FILE: { pattern: "^/run/secrets/" },
              PEERS_FILE: { pattern: "^/run/secrets/" },
            },
          },
          secrets: { type: "array", items: { type: "string" }, minItems: 1 },
          // Published on loopback only.
          ports: {
            type: "array",
            minItems: 1,
            items: { type: "string", pattern: "^127\\.0\\.0\\.1:\\d+:8080$" },
          },
          volumes: { type: "array", items: { type: "string", pattern: "^[\\w-]+:/app/data$" } },
          healthcheck: {
            type: "object",
            required: ["test", "interval", "timeout", "retries"],
            additionalProperties: false,
            properties: {
              test: { type: "array", items: { type: "string" }, contains: { pattern: "/livez" } },
              interval: duration,
              timeout: duration,
              start_period: duration,
              retries: { type: "integer" },
            },
          },
        },
      },
    },
    volumes: { type: "object" },
    secrets: {
      type: "object",
      additionalProperties: {
        type: "object",
        required: ["file"],
        properties: { file: { type: "string", pattern: "^\\./(data/|docs/peers\\.json$)" } },
      },
    },
  },
};

interface Service {
  ports: string[];
  volumes: string[];
  secrets: string[];
  hostname?: string;
  environment: Record<string, string>;
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  secrets: Record<string, unknown>;
}

/** What is wrong with a compose file: its shape, and names that nothing declares. */
export function composeFaults(text: string): string[] {
  const document = parse(text, { merge: true }) as Compose;
  const ajv = new Ajv({ allErrors: true, strict: false });
  if (!ajv.validate(COMPOSE, document)) {
    return (ajv.errors ?? []).map((error) => `${error.instancePath}: ${error.message ?? ""}`);
  }
  const services = Object.entries(document.services);
  const ports = services.flatMap(([, service]) => service.ports);
  const twice = ports.filter((port, at) => ports.indexOf(port) !== at);
  return [
    ...twice.map((port) => `${port} is published twice`),
    ...services.flatMap(([name, { volumes, secrets }]) => [
      ...volumes
        .map((volume) => volume.split(":")[0] ?? "")
        .filter((volume) => !(volume in document.volumes))
        .map((volume) => `${name}: volume ${volume} is not declared`),
      ...secrets
        .filter((secret) => !(secret in document.secrets))
        .map((secret) => `${name}: secret ${secret} is not declared`),
    ]),
  ];
}

interface Peer {
  readonly name: string;
  readonly url: string;
  readonly tokenFile: string;
}

/** What keeps the hosts of a compose file from finding each other by a list of peers. */
export function peerFaults(text: string, peers: readonly Peer[]): string[] {
  const { services } = parse(text, { merge: true }) as Compose;
  const names = Object.keys(services);
  const unknown = peers.filter(({ name }) => !names.includes(name));
  return [
    ...unknown.map(({ name }) => `${name} is a peer and no service`),
    ...Object.entries(services).flatMap(([name, { hostname, environment, secrets }]) => {
      const peer = peers.find((one) => one.name === name);
      if (peer === undefined) return [`${name} is nobody's peer`];
      const faults: string[] = [];
      if (environment["INSTANCE_NAME"] !== name) faults.push(`${name} calls itself another name`);
      if (hostname !== name) faults.push(`${name}'s container has another name`);
      if (peer.url !== `http://${name}:8080`) faults.push(`${name} isn't at ${peer.url}`);
      const files = [...peers.map(({ tokenFile }) => tokenFile), environment["PEERS_FILE"] ?? ""];
      const given = secrets.map((secret) => `/run/secrets/${secret}`);
      const missing = files.filter((file) => !given.includes(file));
      return [...faults, ...missing.map((file) => `${name} isn't given ${file}`)];
    }),
  ];
}

/** Where the services of a compose file are reached, by name: `127.0.0.1:PORT`. */
export function publishedAt(text: string): Readonly<Record<string, string>> {
  const { services } = parse(text, { merge: true }) as Compose;
  return Object.fromEntries(
    Object.entries(services).map(([name, { ports }]) => [name, ports[0]?.replace(/:8080$/, "")]),
  ) as Record<string, string>;
}

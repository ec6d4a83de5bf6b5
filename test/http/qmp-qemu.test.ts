// Goal: whatever our QMP face has, QEMU has with the same names and types, and refuses the same.
// Method: Debian's QEMU dumps its own schema; ours, our answers and our errors are held against it.
// Without QEMU there is nothing to compare.
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";
import { GdbWorld } from "../support/gdb-world.js";
import { QapiSchema } from "../support/qapi-schema.js";
import { type Message, QmpClient } from "../support/qmp-client.js";
import { temporary } from "../support/real-service.js";

const QEMU = "qemu-system-aarch64";
const WAIT_MS = 60_000;

/** Commands of ours that this QEMU has no more. */
const OLD: ReadonlySet<string> = new Set(["query-events"]);

let world: GdbWorld;
let folder: Awaited<ReturnType<typeof temporary>>;
let child: ChildProcess;
let theirs: QmpClient;
let ours: QmpClient;
let schema: { readonly theirs: QapiSchema; readonly ours: QapiSchema };

async function startQemu(): Promise<QmpClient> {
  const path = join(folder.path, "qmp");
  const options = ["-machine", "virt", "-S", "-nodefaults", "-display", "none"];
  const socket = ["-qmp", `unix:${path},server=on,wait=off`];
  child = spawn(program(QEMU), [...options, ...socket], { stdio: "ignore" });
  for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
    const client = await QmpClient.open({ path }).catch(() => null);
    if (client !== null) return client;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("QEMU opened no socket");
}

const schemaOf = async (client: QmpClient): Promise<QapiSchema> =>
  new QapiSchema((await client.done("query-qmp-schema")) as unknown[]);

const errorOf = (answer: Message): unknown =>
  (answer["error"] as Message | undefined)?.["class"] ?? "none";

describe("beside QEMU's", () => {
  if (programVersion(QEMU) === null) {
    it("is not installed", (context) => context.skip(missing(QEMU)));
    return;
  }
  beforeAll(async () => {
    folder = await temporary("qmp-qemu");
    theirs = await startQemu();
    world = await GdbWorld.start({ QMP: "on" });
    const vm = await world.board("hello");
    const { body } = await world.done("POST", `${vm}/qmp`, { listen: "unix" });
    ours = await QmpClient.open({ path: String(body["path"]) });
    schema = { theirs: await schemaOf(theirs), ours: await schemaOf(ours) };
  });
  afterAll(async () => {
    ours?.close();
    theirs?.close();
    child?.kill("SIGKILL");
    await world?.stop();
    await folder?.remove();
  });

  it("every command and event is there, with every argument and member", () => {
    const names = [...schema.ours.names("command"), ...schema.ours.names("event")];
    expect(names.length).toBeGreaterThan(30);
    for (const name of names.filter((one) => !OLD.has(one))) {
      expect(schema.ours.differences(name, schema.theirs), name).toEqual([]);
    }
    for (const name of OLD) expect(schema.theirs.get(name), name).toBeUndefined();
  });

  it("a name, a type or a need of ours that is none there is found", () => {
    const object = (name: string, members: readonly object[]) => {
      return { name, "meta-type": "object", members };
    };
    const command = (name: string, args: string, returns: string) => {
      return { name, "meta-type": "command", "arg-type": args, "ret-type": returns };
    };
    const wrong = new QapiSchema([
      { name: "str", "meta-type": "builtin", "json-type": "string" },
      { name: "bool", "meta-type": "builtin", "json-type": "boolean" },
      { name: "enum", "meta-type": "enum", values: ["running", "dreaming"] },
      object("none", []),
      object("migrate-args", [
        ...[
          { name: "uri", type: "bool" },
          { name: "detach", type: "bool" },
        ],
        { name: "peer", type: "str" },
      ]),
      object("status", [
        { name: "running", type: "bool", default: null },
        { name: "status", type: "enum" },
      ]),
      ...[command("migrate", "migrate-args", "none"), command("query-status", "none", "status")],
      ...[command("teleport", "none", "none"), command("RESUME", "none", "none")],
    ]);
    const found = ["migrate", "query-status", "teleport", "RESUME"].flatMap((name) =>
      wrong.differences(name, schema.theirs),
    );
    expect(found).toEqual([
      "migrate(.uri is boolean, theirs string",
      "migrate(.detach may be absent there",
      "migrate(.peer: there is none",
      "query-status:.running is always there",
      "query-status:.status can't be dreaming there",
      "query-status:.singlestep is missing",
      "teleport: there is none",
      "RESUME: it is a event",
    ]);
    const answer = { running: 1, singlestep: false, status: "dreaming", mood: "good" };
    expect(schema.theirs.wrongIn("query-status", answer)).toHaveLength(3);
    expect(schema.theirs.wrongIn("query-status", { running: true })).toHaveLength(2);
  });

  it("what a VM answers is of QEMU's types, in each of its states", async () => {
    const queries = schema.ours
      .names("command")
      .filter((name) => name.startsWith("query-") && !OLD.has(name));
    await ours.done("calc-dirty-rate", { "calc-time": 1 });
    for (const step of ["cont", "stop", "system_reset"]) {
      await ours.done(step);
      for (const name of queries) {
        const answer = await ours.done(name);
        expect(schema.theirs.wrongIn(name, answer), name).toEqual([]);
        expect(schema.ours.wrongIn(name, answer), name).toEqual([]);
      }
    }
    await world.until(async () => {
      return ((await ours.done("query-dirty-rate")) as Message)["status"] === "measured";
    });
    await ours.done("set-vcpu-dirty-limit", { "dirty-rate": 3 });
    for (const name of ["query-dirty-rate", "query-vcpu-dirty-limit"]) {
      const answer = await ours.done(name);
      expect(schema.theirs.wrongIn(name, answer), name).toEqual([]);
    }
    await ours.done("cancel-vcpu-dirty-limit");
  });

  it("both refuse the same, with the same class", async () => {
    const cases: readonly string[] = [
      ...['{"execute":"no-such"}', '{"execute":"qmp_capabilities"}', "{}", "[]", "7", '"stop"'],
      ...['{"execute":1}', '{"execute":"stop","arguments":[]}', '{"execute":"stop","more":1}'],
      ...['{"execute":"stop","arguments":{"x":1}}', '{"execute":"migrate"}', '{"execute":nope}'],
      ...['{"execute":"migrate","arguments":{"uri":1}}', '{"execute":"stop","execute":"stop"}'],
      ...['{"execute":"migrate","arguments":{"uri":"nonsense"}}', "}", '{"execute":"stop",}'],
      ...[
        '{"execute":"migrate-continue","arguments":{"state":"x"}}',
        '{"execute":"migrate-pause"}',
      ],
      ...['{"execute":"migrate-recover","arguments":{"uri":"tidemark:x"}}', '{"id":1}'],
      ...['{"execute":"migrate-continue","arguments":{"state":"pre-switchover"}}'],
      ...['{"execute":"calc-dirty-rate","arguments":{"calc-time":0}}'],
      ...['{"execute":"calc-dirty-rate","arguments":{"calc-time":61}}'],
      '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":2000001}}',
      '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":1.5}}',
      '{"execute":"migrate-set-parameters","arguments":{"cpu-throttle-initial":0}}',
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"x"}]}}',
      // What both do.
      ...["{'execute':'query-name','id':'single quotes'}", '{"execute":"migrate_cancel"}'],
      '{"execute":"query-name","id":{"a":[1,2.5,null,"\\u00e9",18446744073709551615]}}',
      '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":18446744073709551615}}',
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[]}}',
    ];
    for (const text of cases) {
      const answers: Message[] = [];
      for (const client of [theirs, ours]) {
        client.raw(`${text}\n`);
        answers.push(await client.message());
      }
      const [their = {}, our = {}] = answers;
      expect([errorOf(our), our["id"]], text).toEqual([errorOf(their), their["id"]]);
    }
    expect(await ours.done("query-migrate-parameters")).toMatchObject({
      "max-bandwidth": ((await theirs.done("query-migrate-parameters")) as Message)[
        "max-bandwidth"
      ],
    });
  });

  it("capabilities are off in both before somebody sets them", async () => {
    type Capability = { readonly capability: string; readonly state: boolean };
    const [their, our] = [theirs, ours].map(async (client) => {
      return (await client.done("query-migrate-capabilities")) as readonly Capability[];
    });
    for (const one of (await our) ?? []) expect(await their).toContainEqual(one);
  });
});

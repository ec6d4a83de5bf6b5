// Goal: a session answers as QEMU's protocol says, whatever its client sends.
// Method: a session over a VM that is only told of; answers parsed by plain JSON.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../../src/base/errors.js";
import { fakeFace } from "../../../support/fake-qmp.js";

const generic = (desc: unknown) => ({ error: { class: "GenericError", desc } });

async function ready() {
  const world = fakeFace();
  const client = await world.session();
  await client.ask("qmp_capabilities");
  return { ...world, ...client };
}

describe("the beginning", () => {
  it("greets, ends its lines by CRLF, and waits for qmp_capabilities", async () => {
    const { lines, ask, raw, session } = await fakeFace().session();
    expect(lines).toEqual([
      '{"QMP": {"version": {"qemu": {"major": 1, "minor": 2, "micro": 3}, ' +
        '"package": "tidemark"}, "capabilities": []}}\r\n',
    ]);
    expect(session.takesEvents).toBe(false);
    for (const name of ["query-status", "nothing"]) {
      expect(await ask(name)).toMatchObject({ error: { class: "CommandNotFound" } });
    }
    expect(await ask("qmp_capabilities", { enable: ["oob"] })).toEqual(
      generic(expect.stringContaining("enable[0]")),
    );
    expect(session.takesEvents).toBe(false);
    expect(
      await raw('{"execute": "qmp_capabilities", "arguments": {"enable": []}, "id": 1}'),
    ).toEqual([{ return: {}, id: 1 }]);
    expect(session.takesEvents).toBe(true);
    expect(await ask("qmp_capabilities")).toMatchObject({ error: { class: "CommandNotFound" } });
  });
});

describe("commands", () => {
  it("come back to back, in pieces, with any id", async () => {
    const { raw, lines } = await ready();
    const one = '{"execute":"query-name"}';
    expect(await raw(one + one)).toEqual([
      { return: { name: "guest" } },
      { return: { name: "guest" } },
    ]);
    expect(await raw(one.slice(0, 9))).toEqual([]);
    expect(await raw(one.slice(9))).toHaveLength(1);
    await raw('{"execute":"query-name","id":{"a":[18446744073709551615,null,"é"]}}');
    expect(lines.at(-1)).toContain('"id": {"a": [18446744073709551615, null, "é"]}}\r\n');
  });

  it("that are wrong are answered with what is wrong, and the next one is served", async () => {
    const { raw, ask, counts } = await ready();
    const cases: [string, string][] = [
      ["5 ", "object"],
      ['"stop"', "object"],
      ["[{}]", "object"],
      ["{}", "'execute' is missing"],
      ['{"execute": 5}', "'execute' must be a string"],
      ['{"execute": "stop", "arguments": []}', "'arguments' must be an object"],
      ['{"execute": "stop", "arguments": null}', "'arguments' must be an object"],
      ['{"execute": "stop", "control": 1}', "'control'"],
      ['{"exec-oob": "stop"}', "'exec-oob'"],
      ['{"execute": "stop", "arguments": {"x": 1}}', "'x' is unknown"],
      ['{"execute": "migrate"}', "'uri' is missing"],
      ['{"execute": "migrate", "arguments": {"uri": 1}}', "'uri' must be a string"],
      ['{"execute": nope}', "nope"],
      ["}", "bracket"],
      ['{"execute": "stop", "execute": "cont"}', "twice"],
    ];
    for (const [text, why] of cases) {
      expect(await raw(text), text).toEqual([generic(expect.stringContaining(why))]);
    }
    expect(await raw('{"id": 7, "execute": "toString"}')).toEqual([
      { error: { class: "CommandNotFound", desc: expect.any(String) }, id: 7 },
    ]);
    expect(counts.errors).toBe(cases.length + 1);
    expect(await ask("query-name")).toEqual({ return: { name: "guest" } });
  });

  it("that the VM refuses are told in its words, and our own bugs are not told", async () => {
    const { vm, ask } = await ready();
    vm.refusal = new ServiceError("vm-held", "It is being moved.");
    expect(await ask("stop")).toEqual(generic("It is being moved."));
    vm.refusal = new TypeError("secret");
    expect(await ask("stop")).toEqual(generic("An internal error; the service's log has it."));
    expect(await ask("stop")).toEqual({ return: {} });
  });

  it("are listed, and each is in the schema with its types", async () => {
    const { ask } = await ready();
    const commands = ((await ask("query-commands"))["return"] as { name: string }[]).map(
      ({ name }) => name,
    );
    expect(commands).toEqual(
      expect.arrayContaining([
        ...["query-version", "query-commands", "query-qmp-schema", "query-status"],
        ...["query-cpus-fast", "stop", "cont", "system_reset", "quit", "query-events"],
        ...["migrate", "migrate-incoming", "migrate_cancel", "migrate-pause", "migrate-recover"],
        ...["migrate-continue", "migrate-start-postcopy", "migrate-set-capabilities"],
        ...["query-migrate-capabilities", "migrate-set-parameters", "query-migrate-parameters"],
        ...["query-migrate", "calc-dirty-rate", "query-dirty-rate", "set-vcpu-dirty-limit"],
        ...["cancel-vcpu-dirty-limit", "query-vcpu-dirty-limit"],
      ]),
    );
    type Entity = Record<string, unknown> & { name: string };
    const schema = (await ask("query-qmp-schema"))["return"] as Entity[];
    const byName = new Map(schema.map((entity) => [entity.name, entity]));
    expect(byName.size, "names are unique").toBe(schema.length);
    for (const name of commands) {
      const { "arg-type": args, "ret-type": returns } = byName.get(name) ?? { name };
      for (const type of [args, returns]) expect(byName.has(String(type)), name).toBe(true);
    }
    expect((await ask("query-events"))["return"]).toEqual(
      ["STOP", "RESUME", "SHUTDOWN", "RESET", "MIGRATION", "MIGRATION_PASS"].map((name) => ({
        name,
      })),
    );
  });
});

describe("state and power", () => {
  it("goes by QEMU's words", async () => {
    const { vm, ask } = await ready();
    expect(await ask("query-status")).toEqual({
      return: { running: true, singlestep: false, status: "running" },
    });
    await ask("stop");
    await ask("stop");
    expect((await ask("query-status"))["return"]).toMatchObject({
      status: "paused",
      running: false,
    });
    await ask("cont");
    await ask("cont");
    vm.runState = "created";
    expect((await ask("query-status"))["return"]).toMatchObject({ status: "prelaunch" });
    await ask("stop");
    await ask("cont");
    await ask("system_reset");
    vm.runState = "shutdown";
    expect(await ask("cont")).toEqual(generic(expect.stringContaining(":start")));
    expect(vm.asked).toEqual([
      ...[
        ["act", "pause"],
        ["act", "resume"],
        ["act", "start"],
      ],
      ["act", "reset"],
    ]);
    for (const [state, status] of [
      ["crashed", "internal-error"],
      ["held", "finish-migrate"],
      ["incoming", "inmigrate"],
      ["migrated", "postmigrate"],
    ] as const) {
      vm.runState = state;
      expect((await ask("query-status"))["return"]).toMatchObject({ status, running: false });
    }
  });

  it("quits by stopping the VM", async () => {
    const { vm, ask } = await ready();
    expect(await ask("quit")).toEqual({ return: {} });
    expect(vm.asked).toEqual([["quits"], ["stop"]]);
  });

  it("names vCPUs, the VM and its uuid", async () => {
    const { ask } = await ready();
    expect((await ask("query-cpus-fast"))["return"]).toMatchObject([
      { "cpu-index": 0, target: "aarch64", "qom-path": "/v1/vms/vm_1/vcpus/0" },
      { "cpu-index": 1 },
    ]);
    expect((await ask("query-uuid"))["return"]).toEqual({
      UUID: "7f3a0000-0000-4000-8000-000000000001",
    });
  });
});

describe("noise", () => {
  it("is answered or waited on, and the session serves on", async () => {
    const junk = fc.uint8Array({ maxLength: 400 });
    const words = [
      '{"execute":',
      '"query-name"',
      "}",
      "{",
      "[",
      '"',
      "'",
      "\\",
      "\n",
      ",",
      ":",
      "1",
    ];
    const almost = fc
      .array(fc.constantFrom(...words), { maxLength: 40 })
      .map((parts) => new TextEncoder().encode(parts.join("")));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(junk, almost), { maxLength: 12 }), async (parts) => {
        const { raw } = await ready();
        for (const part of parts) {
          for (const answer of await raw(part)) {
            expect("return" in answer || "error" in answer).toBe(true);
          }
        }
        await raw("\n");
        await raw("]".repeat(5000));
        const last = (await raw('\n{"execute":"query-name","id":"end"}')).at(-1);
        expect(last).toEqual({ return: { name: "guest" }, id: "end" });
      }),
    );
  });
});

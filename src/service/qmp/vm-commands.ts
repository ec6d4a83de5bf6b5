// Owns: QMP's commands of the VM itself: state, power, vCPUs, name. HTTP thread.
// @source QEMU 7.2 qapi/run-state.json, qapi/machine.json, qapi/misc.json
import type { Command } from "./command.js";
import type { RunState } from "./ports.js";
import { arrayOf, BOOL, INT, NOTHING, object, oneOf, QmpError, STR } from "./qapi.js";

const STATUS: Readonly<Record<RunState, string>> = {
  created: "prelaunch",
  running: "running",
  paused: "paused",
  shutdown: "shutdown",
  crashed: "internal-error",
  // Whether a client runs its vCPUs is the client's affair.
  client: "running",
  held: "finish-migrate",
  incoming: "inmigrate",
  migrated: "postmigrate",
};

const STATUS_INFO = object({
  running: BOOL,
  singlestep: BOOL,
  status: oneOf(...new Set(Object.values(STATUS))),
});

const CPU = object(
  { "cpu-index": INT, "qom-path": STR, "thread-id": INT, target: oneOf("aarch64") },
  { tag: "target", cases: { aarch64: NOTHING } },
);

const isOff = (state: RunState): boolean => state === "shutdown" || state === "crashed";

export const VM_COMMANDS: Readonly<Record<string, Command>> = {
  "query-status": {
    args: NOTHING,
    returns: STATUS_INFO,
    run: async ({ vm }) => {
      const state = await vm.state();
      const status = STATUS[state];
      return { running: status === "running", singlestep: false, status };
    },
  },
  "query-cpus-fast": {
    args: NOTHING,
    returns: arrayOf(CPU),
    run: async ({ vm }) =>
      (await vm.vcpus()).map((vcpu) => ({
        "cpu-index": vcpu,
        "qom-path": `/v1/vms/${vm.id}/vcpus/${vcpu}`,
        // All vCPUs of a VM are one thread, and it has no number of its own to tell.
        "thread-id": process.pid,
        target: "aarch64",
      })),
  },
  "query-name": {
    args: NOTHING,
    returns: object({ "name?": STR }),
    run: async ({ vm: { name } }) => (name === null ? {} : { name }),
  },
  "query-uuid": {
    args: NOTHING,
    returns: object({ UUID: STR }),
    run: async ({ vm }) => ({ UUID: vm.uuid }),
  },
  stop: {
    args: NOTHING,
    run: async ({ vm }) => {
      const state = await vm.state();
      if (state === "created" || state === "paused" || isOff(state)) return undefined;
      return void (await vm.act("pause"));
    },
  },
  cont: {
    args: NOTHING,
    run: async ({ vm }) => {
      const state = await vm.state();
      if (state === "running") return undefined;
      if (isOff(state)) {
        throw new QmpError(`The VM is off (${STATUS[state]}): POST /v1/vms/${vm.id}:start.`);
      }
      return void (await vm.act(state === "created" ? "start" : "resume"));
    },
  },
  system_reset: {
    args: NOTHING,
    run: async ({ vm }) => void (await vm.act("reset")),
  },
  quit: {
    args: NOTHING,
    run: async ({ vm, quits }) => {
      quits();
      return void (await vm.stop());
    },
  },
};

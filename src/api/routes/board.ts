// Owns: a VM's board: its state and its power switch. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { Board } from "../schemas/board.schema.js";
import { VmParams } from "../schemas/common.schema.js";
import type { ArgsOf, ResultOf } from "../services.js";

type Action = ArgsOf<"boardAction">["action"];

const orNull = (value: bigint | null): string | null => (value === null ? null : hex(value));

export function boardView(board: ResultOf<"describeBoard">) {
  const { initrd, unassigned } = board;
  return {
    ...board,
    entry: orNull(board.entry),
    dtb: orNull(board.dtb),
    initrd: initrd === null ? null : { start: hex(initrd.start), end: hex(initrd.end) },
    unassigned: { count: unassigned.count, last: orNull(unassigned.last) },
  };
}

/** `:start` is the VM's own: it builds the VM first where it has to. */
const ACTIONS: readonly (readonly [Exclude<Action, "start">, string, string, string])[] = [
  ["pause", "pauseVm", "Pause a board", "Its vCPUs have stopped when the answer comes."],
  ["resume", "resumeVm", "Resume a board", "A paused guest goes on."],
  ["reset", "resetVm", "Reset a board", "Image and device tree anew; a paused one stays paused."],
  [
    "power-off",
    "powerOffVm",
    "Power a board off",
    "At once, as by its plug; `:start` brings it on.",
  ],
];

export function boardOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const get = operation({
    id: "getBoard",
    method: "GET",
    path: "/v1/vms/{vm}/board",
    tag: "boards",
    scope: "vm:read",
    summary: "Read a board",
    description: "Its state and why, where its image went, how much its console has.",
    params: VmParams,
    answers: { 200: json("The board.", Board) },
    problems: ["vm-not-found", "vm-not-active", "no-board"],
    handle: async ({ params }) =>
      boardView((await vms.command(params.vm, "describeBoard", {})).value),
  });
  const actions = ACTIONS.map(([action, id, summary, description]) =>
    operation({
      id,
      method: "POST",
      path: `/v1/vms/{vm}:${action}`,
      tag: "boards",
      scope: "vm:write",
      summary,
      description: `${description} Repeating it changes nothing; see /v1/events for the history.`,
      params: VmParams,
      answers: { 200: json("The board.", Board) },
      problems: ["vm-not-found", "vm-not-active", "no-board", "board-state"],
      handle: async ({ params }) =>
        boardView((await vms.command(params.vm, "boardAction", { action })).value),
    }),
  );
  return [get, ...actions];
}

// Owns: a moved VM that runs while pages of it are still on their way: begin, news, end. VM thread.
import { PageRequests } from "../../base/page-requests.js";
import { MissingPages, type MissingPagesView } from "../../kvm/index.js";
import type { CommandName } from "../commands.js";
import type { Machine } from "../machine.js";
import type { StateCommands } from "./commands.js";
import { objectsOf } from "./memory-map.js";

const NONE: MissingPagesView = { demanded: 0, waitedMs: 0 };

/** What only touches guest memory, and may be done twice: it waits for pages, and begins again. */
export const WAITS_FOR_PAGES: ReadonlySet<CommandName> = new Set<CommandName>([
  ...(["readMemoryObject", "writeMemoryObject", "readPhysicalMemory"] as const),
  ...(["writePhysicalMemory", "disassemble", "translate"] as const),
]);

/** @throws ServiceError "vm-not-held" */
export function awaitPages(m: Machine, args: StateCommands["awaitPages"][0]): null {
  m.held.requireHeld("let it run without all of its pages");
  const { vm } = m.kvm;
  const requests = new PageRequests(args.requests);
  const source = {
    present: args.present,
    ask: (object: number, page: number) => requests.ask(object, page),
    fetch: args.fetch ?? null,
  };
  const missing = new MissingPages(objectsOf(m), source, vm.pageSize, vm.clock);
  vm.missing = missing;
  vm.host.pageGuard = (pa, bytes) => missing.require(pa, bytes);
  return null;
}

export function pagesArrived(m: Machine): MissingPagesView {
  const { missing } = m.kvm.vm;
  missing?.arrived();
  return missing?.view ?? NONE;
}

export function allPagesHere(m: Machine): MissingPagesView {
  const { vm } = m.kvm;
  const { missing } = vm;
  if (missing === null) return NONE;
  missing.arrived();
  for (const vcpu of vm.vcpus) missing.leave(vcpu);
  vm.missing = null;
  vm.host.pageGuard = null;
  return missing.view;
}

// Owns: why a target can't take the state that a VM will come with, as its passport tells it before
// anything stops: versions of its parts, and the eventfds that it wants. HTTP thread.
import type { Passport } from "../../migration/index.js";
import { STATE_VERSIONS } from "../../runtime/index.js";
import { definitionFromJson } from "../definition.js";
import type { Eventfds } from "../eventfd-service.js";
import type { Reason } from "./types.js";

const reason = (code: string, detail: string): Reason => ({ side: "target", code, detail });

/** @param isLocal the source is this host */
export function* stateReasons(
  passport: Passport,
  eventfds: Eventfds,
  isLocal: boolean,
): Iterable<Reason> {
  const unread = unreadParts(passport);
  if (unread.length > 0) {
    const why = `The source's state can't be read here: ${unread.join("; ")}.`;
    yield reason("migration-version", why);
  }
  if (isLocal) return;
  const wanted = passport.eventfds ?? [];
  const isHere = (name: string | null) => name !== null && eventfds.resolve(name).index >= 0;
  const missing = wanted.filter(({ name }) => !isHere(name)).length;
  if (missing > eventfds.free) {
    const why = `EMFILE: the VM has ${missing} eventfds that the target lacks`;
    yield reason("target-eventfds", `${why}, and ${eventfds.free} more can be made there.`);
  }
  if (mayQueue(passport)) return;
  for (const { name, isTrigger } of wanted) {
    if (name === null || !isTrigger || !isHere(name) || !eventfds.isClaimed(name)) continue;
    const why = `EBUSY: at the target eventfd ${name} is bound to an irqfd of another VM.`;
    yield reason("eventfd-busy", why);
  }
}

/** In words; a passport without versions is from before they were told. */
function unreadParts({ parts = [] }: Passport): readonly string[] {
  const ours = new Map<string, number>(Object.entries(STATE_VERSIONS));
  const theirs = new Set(parts.map(({ kind }) => kind));
  const others = parts.flatMap(({ kind, version }) => {
    const own = ours.get(kind);
    if (own === undefined) return `part ${kind} is not known`;
    return own === version ? [] : `part ${kind} has version ${version}, and ${own} is known`;
  });
  if (parts.length === 0) return [];
  const lacking = [...ours.keys()].filter((kind) => !theirs.has(kind));
  return [...others, ...lacking.map((kind) => `part ${kind} is missing`)];
}

/** Whether its irqfds may share an eventfd with another VM's. */
function mayQueue({ vm }: Passport): boolean {
  const json = vm.definition as Parameters<typeof definitionFromJson>[0];
  return definitionFromJson(json).dirty?.settings["irq.era"] === "pre617";
}

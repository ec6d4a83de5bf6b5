// Owns: every command of QMP by name, and those that tell of the table itself. HTTP thread.
import type { Command } from "./command.js";
import { EVENTS } from "./events.js";
import { introspect, SCHEMA_INFO } from "./introspection.js";
import { MIGRATION_COMMANDS } from "./migration-commands.js";
import { arrayOf, INT, NOTHING, object, oneOf, QmpError, STR } from "./qapi.js";
import { VM_COMMANDS } from "./vm-commands.js";

const VERSION = object({ qemu: object({ major: INT, minor: INT, micro: INT }), package: STR });
const NAMED = arrayOf(object({ name: STR }));
/** None is offered. */
const QMP_CAPABILITIES = oneOf();

const named = (names: Readonly<Record<string, unknown>>) =>
  Object.keys(names).map((name) => ({ name }));

/** What a client reads of this build, in the greeting and by query-version. */
export function versionInfo([major, minor, micro]: readonly [number, number, number]) {
  return { qemu: { major, minor, micro }, package: "tidemark" };
}

export const COMMANDS: Readonly<Record<string, Command>> = {
  qmp_capabilities: {
    args: object({ "enable?": arrayOf(QMP_CAPABILITIES) }),
    run: async () => {
      throw new QmpError("Capabilities were agreed on before.", "CommandNotFound");
    },
  },
  "query-version": {
    args: NOTHING,
    returns: VERSION,
    run: async ({ version }) => versionInfo(version),
  },
  "query-commands": { args: NOTHING, returns: NAMED, run: async () => named(COMMANDS) },
  // QEMU 6.0 took it away; scripts that are older ask for it.
  "query-events": {
    args: NOTHING,
    returns: NAMED,
    features: ["deprecated"],
    run: async () => named(EVENTS),
  },
  "query-qmp-schema": {
    args: NOTHING,
    returns: arrayOf(SCHEMA_INFO),
    run: async () => introspect(COMMANDS, EVENTS),
  },
  ...VM_COMMANDS,
  ...MIGRATION_COMMANDS,
};

#!/usr/bin/env node
// Owns: the command `tidemark`: its arguments, its streams, its exit code. CLI process.
import { asked, USAGE } from "./arguments.js";
import { boot } from "./boot.js";
import { dirtyLog } from "./dirty-log.js";
import type { Terminal } from "./ending.js";
import { experiment } from "./experiment.js";
import { EXIT, Failure } from "./failure.js";
import { openHost } from "./host.js";
import { irqfd } from "./irqfd.js";
import { migrate, migrations } from "./migrate.js";
import { dirtyLogPerf } from "./perf/index.js";
import { run } from "./run.js";
import { scenario } from "./scenario/index.js";
import { snapshot } from "./snapshot.js";
import { showVgic } from "./vgic.js";
import { listVms, removeVms, showVm } from "./vm.js";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

const terminal: Terminal = {
  input: process.stdin,
  write: (text) => void process.stdout.write(text),
  warn: (text) => void process.stderr.write(`tidemark: ${text}\n`),
  draw: process.stderr.isTTY ? (text) => void process.stderr.write(text) : null,
  raw: () => {
    const { stdin } = process;
    if (!stdin.isTTY) return () => {};
    stdin.setRawMode(true);
    return () => void stdin.setRawMode(false);
  },
  onInterrupt: (callback) => {
    for (const signal of SIGNALS) process.on(signal, callback);
    return () => {
      for (const signal of SIGNALS) process.off(signal, callback);
    };
  },
};

async function manage(
  verb: "ls" | "show" | "rm",
  ids: readonly string[],
  host: Parameters<typeof openHost>[0],
): Promise<string> {
  const { client } = await openHost(host);
  if (verb === "ls") return listVms(client);
  return verb === "show" ? showVm(client, ids[0] ?? "") : removeVms(client, ids);
}

async function main(args: readonly string[]): Promise<number> {
  const what = asked(args);
  switch (what.command) {
    case "help":
      terminal.write(USAGE);
      return EXIT.ok;
    case "version": {
      const { serviceVersion } = await import("../app.js");
      terminal.write(`${serviceVersion()}\n`);
      return EXIT.ok;
    }
    case "serve":
      // It sets the exit code itself, when it ends.
      await import("../main.js");
      return EXIT.ok;
    case "run":
      return run(what.options, terminal);
    case "experiment":
      return experiment(what.options, terminal);
    case "boot":
      return boot(what.args, terminal);
    case "dirty-log":
      return dirtyLog(what.args, terminal);
    case "dirty-log-perf":
      return dirtyLogPerf(what.args, terminal);
    case "irqfd":
      return irqfd(what.args, terminal);
    case "migrate":
      return migrate(what.args, terminal);
    case "migrations":
      return migrations(what.args, terminal);
    case "scenario":
      return scenario(what.args, terminal);
    case "snapshot":
      return snapshot(what.args, terminal);
    case "vm":
      terminal.write(await manage(what.verb, what.ids, what.host));
      return EXIT.ok;
    case "vgic": {
      const { client } = await openHost(what.host);
      terminal.write(await showVgic(client, what.vm));
      return EXIT.ok;
    }
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    if (code !== EXIT.ok) process.exitCode = code;
  },
  (error: unknown) => {
    const isOurs = error instanceof Failure || (error as Error).name === "ConfigError";
    const said = isOurs ? (error as Error).message : ((error as Error).stack ?? String(error));
    terminal.warn(said.trimEnd());
    process.exitCode = error instanceof Failure ? error.code : EXIT.failed;
  },
);

// Owns: the process: listen, say where, drain on a signal, exit codes. HTTP thread.
//   0 ended on a signal · 1 could not start, or a defect ended it
import "./base/keep-code.js";
import closeWithGrace from "close-with-grace";
import { createHost, type Host } from "./app.js";
import { systemClock } from "./base/clock.js";
import { helpersGiveWay } from "./base/give-way.js";
import { ConfigError, loadConfig } from "./config.js";

/** A refusal to start is one sentence, not a stack. */
function explain(error: unknown): string {
  const { code, name, message } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return `Port taken: ${message}. Set PORT to a free one.`;
  if (code === "EACCES" || code === "EADDRNOTAVAIL") {
    return `Can't listen: ${message}. Set HOST and PORT to an address of this machine.`;
  }
  if (error instanceof ConfigError || name === "StoreError") return message;
  return (error as Error).stack ?? message;
}

function announce(host: Host, address: string): void {
  const { config } = host;
  const auth = config.tokensFile === null ? "no token needed (loopback)" : "bearer token needed";
  const lines = [
    `Tidemark listens at ${address}`,
    `  API      ${address}/v1/host    ${auth}`,
    `  Swagger  ${address}/docs       document: ${address}/openapi.json`,
    `  health   ${address}/livez  ${address}/readyz  ${address}/version  ${address}/metrics`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** readyz is 503 first, so that a load balancer turns away before the socket closes. */
async function shutDown(host: Host): Promise<void> {
  const { services, config, log } = host;
  services.drain();
  host.lifecycle.drain();
  log.info({ room: "main" }, "draining");
  if (config.drainMs > 0) await systemClock.sleep(config.drainMs);
  await host.close();
  log.info({ room: "main" }, "ended");
}

/** Beyond open requests: threads and records get this long, then the process exits with 1. */
const LAST_RESORT_MS = 20_000;

async function main(): Promise<void> {
  helpersGiveWay();
  const config = loadConfig();
  const host = await createHost(config);
  let address: string;
  try {
    address = await host.app.listen({ host: config.host, port: config.port });
  } catch (error) {
    await host.close();
    throw error;
  }
  announce(host, address);
  closeWithGrace(
    { delay: config.drainMs + config.shutdownMs + LAST_RESORT_MS, logger: host.log },
    async ({ err }) => {
      if (err !== undefined) host.log.error({ err }, "a defect ends the process");
      await shutDown(host);
    },
  );
}

main().catch((error: unknown) => {
  process.stderr.write(`tidemark: ${explain(error)}\n`);
  process.exitCode = 1;
});

// Owns: one real service for a file of selftests. Test process.
import { afterAll, beforeAll } from "vitest";
import type { Call } from "./irq-http.js";
import { jsonClient } from "./json-client.js";
import { type RealService, startReal, temporary } from "./real-service.js";

/** Started before the file's tests, stopped behind them. */
export function serviceOfFile(name: string): Call {
  let service: RealService | null = null;
  let dataDir: Awaited<ReturnType<typeof temporary>> | null = null;
  beforeAll(async () => {
    dataDir = await temporary(name);
    service = await startReal({ dataDir: dataDir.path });
  });
  afterAll(async () => {
    await service?.stop();
    await dataDir?.remove();
  });
  const running = (): RealService => {
    if (service === null) throw new Error("the service isn't there yet");
    return service;
  };
  return Object.assign(jsonClient(running), { origin: () => running().origin });
}

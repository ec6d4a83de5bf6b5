// Owns: requests that leave at fixed times whatever became of the last one, each timed from when it
// should have left. Bench process.
import type { Connection } from "./client.js";

const INTERVAL_MS = 5;

/** Latencies in ms of `count` requests of GET /v1/vms, one every INTERVAL_MS. */
export async function paced(
  connection: Connection,
  count: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<number[]> {
  const times: number[] = [];
  const begin = performance.now();
  for (let n = 0; n < count; n++) {
    const due = begin + n * INTERVAL_MS;
    const early = due - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    const start = Math.max(due, begin);
    const sent = performance.now();
    const { status } = await connection.request("GET", "/v1/vms", { headers });
    if (status !== 200) throw new Error(`GET /v1/vms answered ${status}`);
    // A timer that fires late is the client's doing; a request that waited for the last is not.
    times.push(performance.now() - (early > 0 ? sent : start));
  }
  return times;
}

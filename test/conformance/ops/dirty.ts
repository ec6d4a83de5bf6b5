// Owns: dirty bitmap calls of a recording as requests. Any thread.
import { type Answer, type Client, isOk, jsonOf, refusal, success } from "../client.js";
import { type Line, listArg, numberArg, type Outcome, wideArg } from "../line.js";
import { bitmapOf, compressPages, pagesOfBitmap, runOf } from "../page-set.js";
import type { World } from "../world.js";

const MANUAL_PROTECT_ENABLE = 1;
/** Above this size a bitmap goes as JSON ranges: a refused count may stand for half a gigabyte. */
const OCTETS_MAX = 1024 * 1024;
const OCTETS = { accept: "application/octet-stream" };

/**
 * KVM_GET_DIRTY_LOG. In manual mode a plain GET; in legacy mode, where reading clears, a harvest
 * that is acknowledged at once.
 */
export async function getDirtyLog(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const slot = numberArg(line, "slot");
  const path = `${vm.path}/memslots/${slot}/dirty-log`;
  if ((vm.manualProtect & MANUAL_PROTECT_ENABLE) !== 0) {
    const answer = await world.client.send("GET", path, { headers: OCTETS });
    return isOk(answer) ? logOutcome(answer) : refusal(answer);
  }
  const answer = await world.client.send("POST", `${path}/harvests`, { headers: OCTETS });
  if (!isOk(answer)) return refusal(answer);
  const refused = await acknowledge(world.client, path, answer);
  return refused ?? logOutcome(answer);
}

/** Ends a harvest's life. @returns a refusal when the service won't let go of it */
async function acknowledge(client: Client, path: string, harvest: Answer): Promise<Outcome | null> {
  const request = client.lastRequest;
  const id = String(harvest.headers["tidemark-harvest-id"]);
  const answer = await client.send("DELETE", `${path}/harvests/${id}`);
  if (!isOk(answer)) return refusal(answer);
  client.lastRequest = request;
  return null;
}

function logOutcome(answer: Answer): Outcome {
  const pages = pagesOfBitmap(answer.body);
  return success({
    nbits: Number(answer.headers["tidemark-pages"]),
    bytes: answer.body.length,
    count: pages.length,
    dirty: compressPages(pages),
  });
}

/** KVM_CLEAR_DIRTY_LOG. */
export async function clearDirtyLog(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const numPages = numberArg(line, "num_pages");
  const firstPage = wideArg(line, "first_page");
  const path = `${vm.path}/memslots/${numberArg(line, "slot")}/dirty-log/clears`;
  // An unmapped bitmap reaches this place only where KVM decides before it looks at the pointer.
  const bits = "bits" in line.args ? listArg(line, "bits") : [];
  const answer =
    numPages / 8 > OCTETS_MAX
      ? await world.client.send("POST", path, {
          json: { firstPage, numPages, ranges: bits.map(toRange) },
        })
      : await world.client.send("POST", `${path}?firstPage=${firstPage}&numPages=${numPages}`, {
          bytes: bitmapOf(bits, numPages),
        });
  return isOk(answer) ? success() : refusal(answer);
}

function toRange(item: unknown): readonly [number, number] {
  const [first, last] = runOf(item);
  return [first, last - first + 1];
}

/** KVM_RESET_DIRTY_RINGS. */
export async function resetDirtyRings(world: World, line: Line): Promise<Outcome> {
  const answer = await world.client.send("POST", `${world.vm(line.on).path}/dirty-rings/resets`);
  return isOk(answer) ? success({}, Number(jsonOf(answer)["reset"])) : refusal(answer);
}

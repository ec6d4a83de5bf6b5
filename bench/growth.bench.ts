// Owns: how costs move with size: memory from 1 GiB to 1 TiB and vCPUs from 1 to 64 inline, VMs
// from 1 to 100 over HTTP. The work stays the same (as many dirty pages), only what is around it
// grows.
import { GIB, Guest, MIB, PAGE } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { InlineGuest } from "./support/inline.js";
import { median, quantile, timed, timedAsync } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

/** Pages dirtied, whatever the size of the slot. */
const DIRTY = 65_536;
const NS_PER_MS = 1e6;

function memory(context: BenchContext, gib: number): void {
  const rounds = context.quick ? 2 : 5;
  const bytes = gib * GIB;
  const touch: number[] = [];
  const get: number[] = [];
  const clear: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const guest = new InlineGuest({ bytes });
    // As far apart as the slot allows.
    const stride = (guest.pages / DIRTY) * PAGE;
    guest.stores(0, { bytes, count: DIRTY }, { stride });
    touch.push((timed(() => guest.runAll(1)) / DIRTY) * NS_PER_MS);
    let bits: Uint8Array = new Uint8Array(0);
    for (let n = 0; n < 5; n++) {
      get.push(
        timed(() => {
          bits = guest.dirtyLog();
        }),
      );
    }
    clear.push(timed(() => guest.clear(bits)));
    guest.close();
  }
  const size = gib === 1024 ? "1 TiB" : `${gib} GiB`;
  context.report({ what: `first touch, ${size}`, figure: median(touch), unit: "ns/page" });
  context.report({ what: `GET, ${size}`, figure: median(get), unit: "ms" });
  context.report({ what: `CLEAR of ${DIRTY} pages, ${size}`, figure: median(clear), unit: "ms" });
}

function vcpus(context: BenchContext, count: number): void {
  const bytes = GIB;
  const touch: number[] = [];
  const clear: number[] = [];
  const hot: number[] = [];
  for (let round = 0; round < (context.quick ? 2 : 5); round++) {
    const guest = new InlineGuest({ bytes, vcpus: count });
    const share = guest.pages / count;
    const all = (each: number, stride: number) => {
      for (let vcpu = 0; vcpu < count; vcpu++) {
        const window = { base: vcpu * share * PAGE, bytes: share * PAGE, count: each };
        guest.stores(vcpu, window, { stride });
      }
      return timed(() => guest.runAll(count));
    };
    touch.push((all(share, PAGE) / guest.pages) * NS_PER_MS);
    const stores = 4_000_000;
    hot.push((all(stores / count, 1) / stores) * NS_PER_MS);
    const bits = guest.dirtyLog();
    clear.push(timed(() => guest.clear(bits)));
    guest.close();
  }
  const who = count === 1 ? "1 vCPU" : `${count} vCPUs`;
  context.report({ what: `first touch, ${who}`, figure: median(touch), unit: "ns/page" });
  context.report({ what: `store to a dirty page, ${who}`, figure: median(hot), unit: "ns" });
  context.report({ what: `CLEAR of 1 GiB, ${who}`, figure: median(clear), unit: "ms" });
}

async function vms(context: BenchContext, host: HostProcess): Promise<void> {
  const guest = await Guest.create(host.api, { bytes: GIB });
  const others: string[] = [];
  const bits = new Uint8Array(guest.bitmapBytes).fill(0xff);
  for (const count of context.quick ? [1, 5] : [1, 10, 100]) {
    while (others.length < count - 1) {
      const { id } = await host.api.json<{ id: string }>("POST", "/v1/vms", {});
      others.push(`/v1/vms/${id}`);
    }
    const touch: number[] = [];
    const get: number[] = [];
    const clear: number[] = [];
    for (let round = 0; round < (context.quick ? 3 : 15); round++) {
      await guest.program({ pattern: "sequential", bytes: 64 * MIB, count: (64 * MIB) / PAGE });
      touch.push(await timedAsync(() => guest.finish()));
      for (let n = 0; n < 5; n++) {
        get.push(await timedAsync(() => host.api.bytes("GET", guest.logPath)));
      }
      clear.push(await timedAsync(() => host.api.bytes("POST", guest.clearPath, bits)));
    }
    const who = count === 1 ? "1 VM" : `${count} VMs`;
    const p50 = (times: readonly number[]) => quantile(times, 0.5);
    context.report({ what: `64 MiB re-dirtied, ${who}`, figure: p50(touch), unit: "ms" });
    context.report({ what: `GET of 1 GiB, ${who}`, figure: p50(get), unit: "ms" });
    context.report({ what: `CLEAR of 1 GiB, ${who}`, figure: p50(clear), unit: "ms" });
  }
}

export default async function growth(context: BenchContext): Promise<void> {
  for (const gib of context.quick ? [1, 16] : [1, 16, 64, 256, 1024]) memory(context, gib);
  for (const count of context.quick ? [1, 4] : [1, 4, 16, 64]) vcpus(context, count);
  const host = await startHost(context);
  try {
    await vms(context, host);
  } finally {
    await host.end();
  }
}

// Goal: eventfds between two VMs and a client: a guest's doorbell interrupts the other VM's guest,
// whose end of interrupt reaches who waits, by long-poll and by events; a semaphore gives 1 a read.
// Method: a real service, so each VM has a thread of its own; guests take interrupts.
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { HttpVm } from "../support/irq-http.js";
import { serviceOfFile } from "../support/irq-service.js";
import { SPI, served } from "../support/served-guest.js";

const call = serviceOfFile("eventfds-vms");
const DOORBELL = 0x900_0000;

/** A VM whose guest rings a doorbell: as many stores. */
async function ringing(
  eventfd: string,
): Promise<{ vm: HttpVm; ring(times: number): Promise<void> }> {
  const vm = await HttpVm.create(call);
  const cpu = await vm.cpu(0);
  const hook = { eventfd, addr: `0x${DOORBELL.toString(16)}`, len: 4 };
  expect((await call("POST", `${vm.path}/ioeventfds`, hook)).status).toBe(201);
  const store = [...a64.mov(1, BigInt(DOORBELL)), a64.strw(1, 1)];
  return {
    vm,
    ring: async (times) => {
      await cpu.exec(...Array.from({ length: times }, () => store).flat());
    },
  };
}

/** Counts that a stream of events tells of, until it has ended or `most` have come. */
async function* readable(eventfd: string): AsyncGenerator<string> {
  const abort = new AbortController();
  const answer = await fetch(`${call.origin()}/v1/eventfds/${eventfd}`, {
    headers: { accept: "text/event-stream" },
    signal: abort.signal,
  });
  let text = "";
  try {
    for await (const chunk of answer.body ?? []) {
      text += Buffer.from(chunk).toString("utf8");
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const message = text.slice(0, end);
        text = text.slice(end + 2);
        if (message.includes("event: eventfd.closed")) return;
        const data = /^data: (.*)$/m.exec(message)?.[1];
        if (data !== undefined) yield JSON.parse(data).count;
      }
    }
  } finally {
    abort.abort();
  }
}

const waitFor = (eventfd: string) => call("GET", `/v1/eventfds/${eventfd}?wait=20`);
async function take(eventfd: string, after: string): Promise<string> {
  return (await call("POST", `/v1/eventfds/${eventfd}/reads?after=${after}`)).body.value;
}

it("a doorbell of one guest interrupts the other's, whose end is waited for", async () => {
  const { vm, cpu } = await served(call);
  const [trigger, done] = [await vm.eventfd(), await vm.eventfd()];
  const resample = { flags: 2, resampleEventfd: done };
  expect(await vm.irqfd(trigger, SPI - 32, resample)).toBeNull();
  const bell = await ringing(trigger);
  const events = readable(done);
  const polled = waitFor(done);
  // It sleeps until its interrupt comes from the other VM's thread.
  const taken = cpu.exec(a64.WFI, a64.NOP);
  await bell.ring(1);
  await taken;
  expect(await cpu.take()).toEqual([SPI]);
  expect((await polled).body).toMatchObject({ id: done, count: "0x1" });
  expect(await events.next()).toEqual({ done: false, value: "0x1" });
  expect(await take(done, "r0")).toBe("0x1");
  expect((await call("GET", `/v1/eventfds/${trigger}`)).body.count).toBe("0x0");
  // The line is low again: nothing more is taken until the bell rings.
  expect(await cpu.take()).toEqual([]);
  const next = events.next();
  await bell.ring(3);
  // Answered once the VM has heard of all that came before it, too.
  await vm.signal(trigger);
  await cpu.exec(a64.WFI, a64.NOP);
  expect(await cpu.take()).toEqual([SPI]);
  expect(await next).toEqual({ done: false, value: "0x1" });
  const closed = events.next();
  await call("DELETE", `/v1/eventfds/${done}`);
  expect(await closed).toEqual({ done: true, value: undefined });
  await vm.delete();
  await bell.vm.delete();
}, 60_000);

it("of a semaphore a doorbell adds 1, a read and an irqfd take 1", async () => {
  const made = await call("POST", "/v1/eventfds", { count: "0x2", semaphore: true });
  expect(made.body).toMatchObject({ count: "0x2", semaphore: true });
  const { id } = made.body;
  const bell = await ringing(id);
  await bell.ring(1);
  expect([await take(id, "r0"), await take(id, "r1")]).toEqual(["0x1", "0x1"]);
  expect((await waitFor(id)).body.count).toBe("0x1");
  const { vm, cpu } = await served(call);
  // What is there is injected once, and stays.
  expect(
    await vm.irqfd(id, SPI - 32, { flags: 2, resampleEventfd: await vm.eventfd() }),
  ).toBeNull();
  expect(await cpu.take()).toEqual([SPI]);
  expect((await call("GET", `/v1/eventfds/${id}`)).body.count).toBe("0x1");
  expect((await call("POST", `/v1/eventfds/${id}/writes`, { value: "0x4" })).body.count).toBe(
    "0x4",
  );
  expect(await cpu.take()).toEqual([SPI]);
  expect(await vm.deassign(id, SPI - 32)).toBeNull();
  expect((await call("GET", `/v1/eventfds/${id}`)).body.count).toBe("0x3");
  expect(await take(id, "r2")).toBe("0x1");
  await vm.delete();
  await bell.vm.delete();
}, 60_000);

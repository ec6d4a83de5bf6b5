// Owns: one GDB client's session: its commands, and what they do to the VM. HTTP thread.
//
//           vCont, c, s                     a vCPU stopped, 0x03
//   halted ─────────────▶ running ─────────────────────────────▶ halted
//     └── D, k, the connection's end: breakpoints go, the VM stays halted (D: goes on)
// @source GDB manual, appendix E.2 (packets), E.4 (general queries)
import { KvmError, ServiceError } from "../../base/errors.js";
import { Breakpoints } from "./breakpoints.js";
import type { GuestAccess } from "./guest-access.js";
import { PACKET_BYTES_MAX } from "./limits.js";
import { memoryCommand } from "./memory-commands.js";
import { ERROR, FrameReader, frame } from "./packet.js";
import { registerCommand } from "./register-commands.js";
import { PC_ID } from "./registers.table.js";
import { parseThread, resumePlan, threadOf } from "./resume-plan.js";
import { classOf, EC, type ReasonsKnown, stopReply } from "./stop-reply.js";
import type { Resumed, RunControl, Stopped } from "./target.js";
import { TARGET_XML } from "./target-xml.js";

/** What the client did, for whoever asks the service. */
export interface SessionCounts {
  packets: number;
  damaged: number;
  stops: number;
}

interface Parts {
  readonly access: GuestAccess;
  readonly control: RunControl;
  readonly counts: SessionCounts;
  /** Resolves when the client takes more. */
  readonly send: (bytes: string) => Promise<void>;
  /** The client has said goodbye, or can't be understood: close its connection. */
  readonly end: () => void;
}

export class Stub {
  readonly #parts: Parts;
  readonly #frames = new FrameReader();
  readonly #breakpoints: Breakpoints;
  readonly #known: ReasonsKnown = { swbreak: false, hwbreak: false };
  #acknowledges = true;
  /** The last packet that was sent, to be sent again if it came damaged. */
  #sent = "";
  /** The vCPU that register and memory packets mean, and that of c and s. */
  #general = 0;
  #resumes: number | "all" = "all";
  #stopped: Stopped = { kind: "interrupted" };
  /** Resolves when nothing runs any more; null while nothing does. */
  #running: Promise<void> | null = null;
  #wantsStop = false;
  #isOver = false;
  #goesOn = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#breakpoints = new Breakpoints(parts.access);
  }

  /** Halts the VM for the client. */
  async open(): Promise<void> {
    await this.#parts.control.attach();
    this.#general = (await this.#parts.access.vcpus())[0] ?? 0;
  }

  /** The connection has ended: nothing of the debugger stays in the VM. */
  async close(): Promise<void> {
    this.#isOver = true;
    this.#interrupt();
    await this.#running;
    const { access, control } = this.#parts;
    await this.#breakpoints.clear();
    for (const vcpu of await access.vcpus()) await access.undebug(vcpu);
    await control.detach(this.#goesOn);
  }

  async receive(bytes: string): Promise<void> {
    for (const one of this.#frames.feed(bytes)) {
      if (this.#isOver) return;
      if (one.kind === "interrupt") this.#interrupt();
      else if (one.kind === "nack") await this.#parts.send(this.#sent);
      else if (one.kind === "too-long") this.#over();
      else if (one.kind === "damaged") {
        this.#parts.counts.damaged++;
        if (this.#acknowledges) await this.#parts.send("-");
      } else if (one.kind === "packet") await this.#packet(one.body);
    }
  }

  async #packet(body: string): Promise<void> {
    this.#parts.counts.packets++;
    if (this.#acknowledges) await this.#parts.send("+");
    let reply: string | null;
    try {
      reply = this.#running === null ? await this.#answer(body) : ERROR.BUSY;
    } catch (error) {
      // What KVM refuses, such as a mode of AArch32; anything else ends the session.
      const isRefusal = error instanceof KvmError || error instanceof ServiceError;
      if (!isRefusal || error.code === "vm-gone") throw error;
      reply = ERROR.INVALID;
    }
    if (reply !== null) await this.#reply(reply);
  }

  async #reply(body: string): Promise<void> {
    this.#sent = frame(body);
    await this.#parts.send(this.#sent);
  }

  /** @returns null where the answer comes later: at the next stop, or never */
  async #answer(body: string): Promise<string | null> {
    const rest = body.slice(1);
    const { access } = this.#parts;
    switch (body[0]) {
      case "?":
        return this.#stopReply();
      case "q":
      case "Q":
        return this.#query(body);
      case "v":
        return this.#verbose(body);
      case "H":
        return this.#select(rest);
      case "T":
        return (await this.#thread(rest)) === null ? ERROR.INVALID : "OK";
      case "c":
      case "C":
      case "s":
      case "S":
        return this.#resumeOne(body);
      case "g":
      case "G":
      case "p":
      case "P":
        return registerCommand(access, this.#general, body);
      case "m":
      case "M":
      case "X":
      case "Z":
      case "z":
        return memoryCommand(access, this.#breakpoints, this.#general, body);
      case "D":
        this.#goesOn = true;
        await this.#reply("OK");
        return this.#over();
      case "k":
        return this.#over();
      default:
        return "";
    }
  }

  #over(): null {
    this.#isOver = true;
    this.#parts.end();
    return null;
  }

  #stopReply(): Promise<string> {
    const parts = { ...this.#parts, breakpoints: this.#breakpoints, known: this.#known };
    return stopReply(this.#stopped, this.#general, parts);
  }

  async #thread(text: string): Promise<number | null> {
    const thread = parseThread(text);
    if (typeof thread !== "number") return null;
    return (await this.#parts.access.vcpus()).includes(thread) ? thread : null;
  }

  async #select(rest: string): Promise<string> {
    const thread = parseThread(rest.slice(1));
    const isKind = rest[0] === "g" || rest[0] === "c";
    if (!isKind || thread === null) return ERROR.INVALID;
    if (typeof thread === "number") {
      if ((await this.#thread(rest.slice(1))) === null) return ERROR.INVALID;
      if (rest[0] === "g") this.#general = thread;
      else this.#resumes = thread;
    } else if (rest[0] === "c") this.#resumes = thread === "all" ? "all" : this.#general;
    return "OK";
  }

  async #query(body: string): Promise<string> {
    const [name = "", ...args] = body.split(/[:,]/);
    const rest = body.slice(name.length + 1);
    switch (name) {
      case "qSupported":
        this.#known.swbreak = rest.split(";").includes("swbreak+");
        this.#known.hwbreak = rest.split(";").includes("hwbreak+");
        return SUPPORTED;
      case "QStartNoAckMode":
        this.#acknowledges = false;
        return "OK";
      case "qXfer":
        return transfer(rest);
      case "qAttached":
        return "1";
      case "qC":
        return `QC${threadOf(this.#general)}`;
      case "qfThreadInfo":
        return `m${(await this.#parts.access.vcpus()).map(threadOf).join(",")}`;
      case "qsThreadInfo":
        return "l";
      case "qThreadExtraInfo": {
        const vcpu = await this.#thread(args[0] ?? "");
        return vcpu === null ? ERROR.INVALID : Buffer.from(`vCPU ${vcpu}`).toString("hex");
      }
      default:
        return "";
    }
  }

  async #verbose(body: string): Promise<string | null> {
    if (body === "vCont?") return "vCont;c;C;s;S;t";
    if (body === "vCtrlC") return "OK";
    if (body.startsWith("vKill")) {
      await this.#reply("OK");
      return this.#over();
    }
    if (!body.startsWith("vCont;")) return "";
    const plan = resumePlan(body.slice("vCont;".length), await this.#parts.access.vcpus());
    if (plan === null) return ERROR.INVALID;
    return plan.length === 0 ? "OK" : this.#resume(plan);
  }

  /** c and s of clients without vCont: s steps one vCPU, and the others wait. */
  async #resumeOne(body: string): Promise<string | null> {
    const [, letter = "", , address] = /^([cCsS])([0-9a-fA-F]{2};?)?(.*)$/.exec(body) ?? [];
    const isStep = letter.toLowerCase() === "s";
    // Only C and S have a signal in front of the address.
    const where = letter === "c" || letter === "s" ? body.slice(1) : (address ?? "");
    if (!/^[0-9a-fA-F]{0,16}$/.test(where)) return ERROR.INVALID;
    const vcpu = this.#resumes === "all" ? this.#general : this.#resumes;
    if (where !== "") {
      const answer = await registerCommand(this.#parts.access, vcpu, pcPacket(where));
      if (answer !== "OK") return answer;
    }
    if (isStep) return this.#resume([{ vcpu, mode: "step" }]);
    const vcpus = this.#resumes === "all" ? await this.#parts.access.vcpus() : [vcpu];
    return this.#resume(vcpus.map((id) => ({ vcpu: id, mode: "continue" })));
  }

  #resume(plan: readonly Resumed[]): null {
    this.#wantsStop = false;
    const running = this.#go(plan)
      .then((stopped) => this.#halted(stopped))
      // The VM is gone, and this session with it.
      .catch(() => void this.#over())
      .finally(() => {
        if (this.#running === running) this.#running = null;
      });
    this.#running = running;
    return null;
  }

  #interrupt(): void {
    if (this.#running === null) return;
    this.#wantsStop = true;
    this.#parts.control.interrupt();
  }

  async #go(plan: readonly Resumed[]): Promise<Stopped> {
    const { access, control } = this.#parts;
    const hardware = this.#breakpoints.hardware();
    for (const { vcpu, mode } of plan) await access.debug(vcpu, mode === "step", hardware);
    for (;;) {
      if (this.#wantsStop) return { kind: "interrupted" };
      access.forget();
      const stopped = await control.resume(plan);
      if (stopped.kind !== "debug" || classOf(stopped.hsr) !== EC.BRK) return stopped;
      const { vcpu } = stopped;
      if (this.#breakpoints.isSoftware(await access.read(vcpu, PC_ID))) return stopped;
      // The guest's own: it goes where it would have gone, and that is one step.
      await access.passBreakpoint(vcpu);
      if (plan.some((one) => one.vcpu === vcpu && one.mode === "step")) {
        return { ...stopped, hsr: BigInt(EC.STEP) << 26n };
      }
    }
  }

  async #halted(stopped: Stopped): Promise<void> {
    this.#stopped = stopped;
    this.#parts.counts.stops++;
    if ("vcpu" in stopped) this.#general = stopped.vcpu;
    const reply = await this.#stopReply();
    this.#running = null;
    if (this.#isOver) return;
    if ("why" in stopped) {
      await this.#parts.send(frame(`O${Buffer.from(`${stopped.why}\n`).toString("hex")}`));
    }
    await this.#reply(reply);
    // A process that has exited is no more to GDB.
    if (stopped.kind === "off") this.#over();
  }
}

const SUPPORTED = [
  `PacketSize=${PACKET_BYTES_MAX.toString(16)}`,
  "qXfer:features:read+",
  "vContSupported+",
  "swbreak+",
  "hwbreak+",
  "QStartNoAckMode+",
].join(";");

/** A "P" packet that sets PC to what a client wrote in hexadecimal. */
function pcPacket(address: string): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(`0x${address}`));
  return `P20=${bytes.toString("hex")}`;
}

/** Part of the target description: "l" is the last one, "m" says that there is more. */
function transfer(rest: string): string {
  const match = /^features:read:target\.xml:([0-9a-fA-F]{1,8}),([0-9a-fA-F]{1,8})$/.exec(rest);
  if (match === null) return rest.startsWith("features:read:") ? "E00" : "";
  const [from, length] = [parseInt(match[1] ?? "0", 16), parseInt(match[2] ?? "0", 16)];
  const part = TARGET_XML.slice(from, from + Math.min(length, PACKET_BYTES_MAX / 2));
  return (from + part.length >= TARGET_XML.length ? "l" : "m") + part;
}

// Owns: an interrupt controller of a replayed VM: a GICv2 by its device, which is how the format's
// description reads KVM_CREATE_IRQCHIP ("controller created and initialised"). Any thread.
//
// arm64 fixes the vCPUs at INIT; a recording may create them after the controller. So the device
// is created at once, and INIT waits for the first call that creates no vCPU.
import { type Answer, type Client, isOk, jsonOf } from "./client.js";
import { ReplayFault } from "./line.js";

/** SPIs begin here: pin n of irqchip 0 is INTID 32 + n. */
export const SPI_FIRST = 32;
const VGIC_V2 = 5;
/** Offsets in the GICv2's distributor. */
const ICPENDR = 0x280;
const ICFGR = 0xc00;
/** An interrupt's two bits. */
const [LEVEL, EDGE] = [0, 2];
/** As many as a controller has that nobody told a number. */
const SPIS = 224;
/** Bytes between the distributor and the CPU interface, in the recorder's own piece of memory. */
const CPU_OFFSET = 0x10000n;

export interface Frames {
  readonly distributor: bigint;
  readonly cpuInterface: bigint;
}

/** The interrupt as KVM keeps it. */
interface Interrupt {
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
}

/** Where no recorded call goes: the recorder keeps its own guest program there. */
export function framesAt(reserved: bigint): Frames {
  return { distributor: reserved, cpuInterface: reserved + CPU_OFFSET };
}

export class Irqchip {
  readonly frames: Frames;
  readonly #client: Client;
  readonly #vm: string;
  readonly #device: string;
  readonly #edgePins: ReadonlySet<number>;
  #isInitialized = false;

  private constructor(
    client: Client,
    at: { vm: string; device: string; frames: Frames; edgePins: ReadonlySet<number> },
  ) {
    this.#client = client;
    this.#vm = at.vm;
    this.#device = at.device;
    this.frames = at.frames;
    this.#edgePins = at.edgePins;
  }

  /**
   * Creates the device and places its frames.
   * @param edgePins pins whose edges are looked at: they are configured so
   * @returns the controller, or the answer that refused it
   */
  static async create(
    client: Client,
    { vm, frames, edgePins }: { vm: string; frames: Frames; edgePins: ReadonlySet<number> },
  ): Promise<Irqchip | Answer> {
    const answer = await client.send("POST", `${vm}/devices`, { json: { type: VGIC_V2 } });
    if (!isOk(answer)) return answer;
    const device = `${vm}/devices/${String(jsonOf(answer)["device"])}`;
    const places = [
      ["v2-dist", frames.distributor],
      ["v2-cpu", frames.cpuInterface],
    ] as const;
    for (const [kind, at] of places) {
      const json = { address: `0x${at.toString(16)}` };
      const placed = await client.send("PUT", `${device}/addresses/${kind}`, { json });
      if (!isOk(placed)) return placed;
    }
    return new Irqchip(client, { vm, device, frames, edgePins });
  }

  /**
   * INIT, once; every vCPU must be there.
   * @param hasVcpus registers are a vCPU's view: without one there is no way to them
   */
  async initialise(hasVcpus: boolean): Promise<void> {
    if (this.#isInitialized) return;
    this.#isInitialized = true;
    await this.#send("POST", `${this.#device}/operations`, { op: "init" });
    if (hasVcpus) await this.#configure();
  }

  /** The interrupt of a pin. */
  async interrupt(pin: number): Promise<Interrupt> {
    const intid = SPI_FIRST + pin;
    const answer = await this.#send("GET", `${this.#vm}/vgic/interrupts?from=${intid}&to=${intid}`);
    const [found] = jsonOf(answer)["items"] as readonly Interrupt[];
    if (found === undefined) throw new ReplayFault(`the controller has no pin ${pin}`);
    return found;
  }

  /** Takes the memory of an edge away, as a look at it does in the recording. */
  async forgetEdge(pin: number): Promise<void> {
    const intid = SPI_FIRST + pin;
    await this.#write([[ICPENDR + 4 * (intid >>> 5), 1 << (intid & 31)]]);
  }

  /** KVM's SPIs begin as edge-triggered ones. */
  async #configure(): Promise<void> {
    const words = new Map<number, number>();
    for (let pin = 0; pin < SPIS; pin++) {
      const intid = SPI_FIRST + pin;
      const offset = ICFGR + 4 * (intid >>> 4);
      const config = this.#edgePins.has(pin) ? EDGE : LEVEL;
      words.set(offset, (words.get(offset) ?? 0) | (config << (2 * (intid & 15))));
    }
    await this.#write([...words]);
  }

  async #write(words: readonly (readonly [number, number])[]): Promise<void> {
    const registers = words.map(([offset, value]) => ({
      kind: "dist",
      offset,
      value: `0x${(value >>> 0).toString(16)}`,
    }));
    const answer = await this.#send("PATCH", `${this.#device}/registers`, { registers });
    const { refused } = jsonOf(answer);
    if (refused !== null) throw new ReplayFault(`a register: ${JSON.stringify(refused)}`);
  }

  /** A call that the recording doesn't have, so it has to succeed. */
  async #send(method: string, path: string, json?: object): Promise<Answer> {
    const answer = await this.#client.send(method, path, json === undefined ? {} : { json });
    if (isOk(answer)) return answer;
    const text = answer.body.toString("utf8").slice(0, 200);
    throw new ReplayFault(`${method} ${path} gave ${answer.status}: ${text}`);
  }
}

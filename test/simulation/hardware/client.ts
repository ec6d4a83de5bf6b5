// The client's hand on dirty hardware: HDBSS on and off, and settings changed while vCPUs run.
import { chance, type World } from "../world.js";
import { drawChanges } from "./draw.js";

const SENSELESS = 99;
const BYTES_OF_ORDER_0 = 4096; // tidy: the unit of HDBSSBR_EL2.SZ

export class HardwareClient {
  readonly #world: World;
  #isInFlight = false;
  /** How often HDBSS was turned on and off, for the campaign's figures. */
  switched = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** One of: HDBSS on or off, some settings, both. */
  act(): void {
    const { hardware } = this.#world.layout;
    if (hardware === null) return;
    if (chance(this.#world, 50)) this.change();
    if (chance(this.#world, 60)) this.toggle(chance(this.#world, 70));
  }

  change(): void {
    const { prng, link, mode, layout } = this.#world;
    if (mode.clean === undefined || layout.hardware === null) return;
    const settings = drawChanges(prng, mode.clean, layout.hardware.pinned);
    link.now("changeDirty", { settings, seedBugs: null });
  }

  /** @param isOn what HDBSS shall be; refusals are as good as any answer */
  toggle(isOn: boolean): void {
    const { hardware } = this.#world.layout;
    if (hardware === null || hardware.cap === null || this.#isInFlight) return;
    const { settings, order, cap } = hardware;
    const size = settings["hdbss.sizeUnit"] === "bytes" ? BYTES_OF_ORDER_0 * 2 ** order : order;
    const isV2 = settings["hdbss.enableBy"] === "ioctl-v2";
    // Who turns it off may say any size.
    const args = isV2 ? [isOn ? size : 0, 0] : [isOn ? size : SENSELESS, isOn ? 1 : 0];
    this.#isInFlight = true;
    const wide = [...args, 0, 0].map((arg) => BigInt(arg));
    this.#world.link.call("enableCap", { cap, flags: 0, args: wide }, (reply) => {
      this.#isInFlight = false;
      if (reply.ok) this.switched++;
      else if (!isOn) this.#world.oracle.fail(`HDBSS can't be turned off: ${reply.error.message}`);
    });
  }
}

// Owns: defects planted into the GICv5 of a simulated VM, each of which the oracle must see.
// Test process.
import type { VgicV5 } from "../../../src/kvm/vgic/v5/vgic-v5.js";
import { POLICIES, type Policy } from "./oracle.js";
import type { GicWorld } from "./world.js";

export interface GicPlant {
  readonly name: string;
  /** Under which it has to show. */
  readonly policies: readonly Policy[];
  /** What would have to be wrong. */
  readonly says: string;
  readonly apply: (world: GicWorld) => void;
}

const EXACT = ["exact"] as const;
const LISTS = ["seed004", "seed004-notifier-only"] as const;
const ACKING = [...EXACT, ...LISTS] as const;

const vgicOf = (world: GicWorld): VgicV5 => world.v5 as VgicV5;

/** Puts a function in the place of a method. */
function instead<T extends object, K extends keyof T>(of: T, name: K, make: (was: T[K]) => T[K]) {
  const was = of[name];
  const bound = typeof was === "function" ? (was.bind(of) as T[K]) : was;
  Object.defineProperty(of, name, { value: make(bound), configurable: true });
}

function everyNth(n: number): () => boolean {
  let count = 0;
  return () => ++count % n === 0;
}

export const GIC_PLANTS: readonly GicPlant[] = [
  {
    name: "told-twice",
    policies: ACKING,
    says: "an acknowledgement reaches the notifier twice",
    apply: ({ kvm: { vm } }) =>
      instead(vm.ackNotifiers, "ack", (was) => (chip, pin) => {
        was(chip, pin);
        was(chip, pin);
      }),
  },
  {
    name: "told-not-always",
    policies: ACKING,
    says: "one acknowledgement of seven is forgotten",
    apply: ({ kvm: { vm } }) => {
      const isForgotten = everyNth(7);
      instead(vm.ackNotifiers, "ack", (was) => (chip, pin) => {
        if (!isForgotten()) was(chip, pin);
      });
    },
  },
  {
    name: "told-of-another",
    policies: ACKING,
    says: "the notifier of the next pin is told",
    apply: ({ kvm: { vm } }) =>
      instead(vm.ackNotifiers, "ack", (was) => (chip, pin) => was(chip, pin + 1)),
  },
  {
    name: "told-of-typed-intid",
    policies: ACKING,
    says: "R12: the INTID goes with its type to the reverse map",
    apply: ({ kvm: { vm } }) =>
      instead(vm.ackNotifiers, "ack", (was) => (chip, pin) => was(chip, 0x6000_0000 + pin)),
  },
  {
    name: "line-not-withdrawn",
    policies: POLICIES,
    says: "a line that falls doesn't take its pending state away: no VDPEND 0",
    apply: ({ kvm: { vm } }) =>
      instead(vm.host.irs, "vdpend", (was) => (id, intid, isPending) => {
        if (isPending) was(id, intid, isPending);
      }),
  },
  {
    name: "pending-told-late",
    policies: POLICIES,
    says: "one VDPEND of five gets lost",
    apply: ({ kvm: { vm } }) => {
      const isLost = everyNth(5);
      instead(vm.host.irs, "vdpend", (was) => (id, intid, isPending) => {
        if (!isLost()) was(id, intid, isPending);
      });
    },
  },
  {
    name: "deactivation-untrapped",
    policies: EXACT,
    says: "GIC CDDI isn't trapped once in three times",
    apply: (world) => {
      const isOpen = everyNth(3);
      const { tracking } = vgicOf(world);
      const proto = Object.getOwnPropertyDescriptor(
        Object.getPrototypeOf(tracking),
        "trapsDeactivation",
      );
      Object.defineProperty(tracking, "trapsDeactivation", {
        get: () => (isOpen() ? false : (proto?.get?.call(tracking) as boolean)),
      });
    },
  },
  {
    name: "idle-deactivated",
    policies: EXACT,
    says: "deactivating what isn't active is an acknowledgement too",
    apply: (world) => instead(vgicOf(world).tracking, "isActive", () => () => true),
  },
  {
    name: "end-not-deactivated",
    policies: EXACT,
    says: "KVM tells of the end, and leaves the SPI active",
    apply: (world) => {
      const { domain } = vgicOf(world).tables;
      if (domain !== null) instead(domain, "deactivate", () => () => true);
    },
  },
  {
    name: "exits-skipped",
    policies: LISTS,
    says: "every other exit looks at nothing",
    apply: (world) => {
      const isSkipped = everyNth(2);
      instead(vgicOf(world).tracking, "exited", (was) => (vcpu) => {
        if (!isSkipped()) was(vcpu);
      });
    },
  },
  {
    name: "registration-unheard",
    policies: ["seed004-notifier-only"],
    says: "who begins to listen while an SPI is in flight misses its end",
    apply: (world) => instead(vgicOf(world).tracking, "notifiersChanged", () => () => undefined),
  },
  {
    name: "registration-untrapped",
    policies: EXACT,
    says: "who begins to listen while an SPI is in flight misses its end",
    apply: (world) => instead(vgicOf(world).tracking, "notifiersChanged", () => () => undefined),
  },
  {
    name: "active-doesn't-mask",
    policies: POLICIES,
    says: "the silicon hands out an SPI that is active: two vCPUs could have it",
    apply: (world) => {
      const { domain } = vgicOf(world).tables;
      if (domain === null) return;
      instead(domain, "activate", (was) => (intid) => {
        was(intid);
        domain.deactivate(intid);
      });
    },
  },
];

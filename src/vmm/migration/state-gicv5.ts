// Owns: a GICv5 in a state that moves: its IRS, its interrupt state tables and CPU interfaces by
// device attributes, in the order in which they are restored. VM thread.
//
//   save: tables of SPIs and LPIs, IRS, CPU interfaces
//   load: IRS (IDs are checked, IST_CFGR before IST_BASER) ─▶ tables ─▶ CPU interfaces ─▶ the rest
// @source interrupts.md 7.4
import type { KvmDevice, V5Latent, V5Port } from "../../kvm/index.js";
import {
  ADDR,
  attribute,
  CTRL,
  GROUP,
  getU64,
  NOTHING,
  setU32,
  setU64,
} from "../device-attributes.js";
import { ICC_V5_STATE, IRS_STATE } from "../gic-offsets.table.js";

/** What is built alike, or not at all. */
export interface GicV5Config {
  /** 0: not set. */
  readonly spis: number;
  readonly isInitialized: boolean;
  /** IPA of the IRS; null: not set. */
  readonly irs: bigint | null;
}

export interface GicV5Words {
  readonly irs: BigUint64Array;
  readonly spis: Uint8Array;
  /** null: the guest has made no table for LPIs. */
  readonly lpis: Uint8Array | null;
  /** By creation order of the vCPUs. */
  readonly cpus: readonly BigUint64Array[];
}

export interface GicV5State extends GicV5Config {
  readonly words: GicV5Words | null;
  readonly latent: V5Latent | null;
}

export function gicV5Config(port: V5Port): GicV5Config {
  const { irsBase, isInitialized } = port.view();
  return { spis: port.nrSpis, isInitialized, irs: irsBase };
}

/** @param affinities of the vCPUs, in the order of their creation */
export function saveGicV5(
  device: KvmDevice,
  port: V5Port,
  affinities: readonly number[],
): GicV5State {
  const config = gicV5Config(port);
  if (!config.isInitialized) return { ...config, words: null, latent: null };
  const { spi, lpi } = port.saveIst();
  const words = {
    irs: BigUint64Array.from(IRS_STATE, (at) => getU64(device, GROUP.IRS, BigInt(at))),
    spis: spi,
    lpis: lpi,
    cpus: affinities.map((who) =>
      BigUint64Array.from(ICC_V5_STATE, (reg) => getU64(device, GROUP.SYSREG, attribute(who, reg))),
    ),
  };
  return { ...config, words, latent: port.latent() };
}

/** NR_IRQS, the address and INIT, as they were there. */
export function configureGicV5(device: KvmDevice, { spis, irs, isInitialized }: GicV5Config): void {
  if (spis > 0) setU32(device, GROUP.NR_IRQS, 0n, spis);
  if (irs !== null) setU64(device, GROUP.ADDR, ADDR.V5_IRS, irs);
  if (isInitialized) device.set(GROUP.CTRL, CTRL.INIT, NOTHING);
}

/** @returns null, or why it is another controller's. @throws KvmError */
export function loadGicV5(
  device: KvmDevice,
  port: V5Port,
  affinities: readonly number[],
  { words, latent }: GicV5State,
): string | null {
  if (words === null || latent === null) return null;
  for (const [at, offset] of IRS_STATE.entries()) {
    setU64(device, GROUP.IRS, BigInt(offset), words.irs[at] ?? 0n);
  }
  port.restoreIst(words.spis, words.lpis);
  for (const [index, affinity] of affinities.entries()) {
    const cpu = words.cpus[index];
    if (cpu === undefined) continue;
    for (const [at, reg] of ICC_V5_STATE.entries()) {
      setU64(device, GROUP.SYSREG, attribute(affinity, reg), cpu[at] ?? 0n);
    }
  }
  return port.loadLatent(latent);
}

// Owns: the registers of KVM's virtual IRS, by offset in its configuration frame: what a guest
// reads and what its stores do. VM thread.
// @source interrupts.md 5.6; gicv5-observed.md 1, 2 (marked K)
import type { V5Context } from "./context.js";
import { configureSpi } from "./inject.js";
import {
  IRS,
  idr0Of,
  idr1Of,
  idr2Of,
  istBaserOf,
  writeCr0,
  writeIstBaser,
  writeIstCfgr,
} from "./irs.js";

export interface IrsRegister {
  readonly name: string;
  readonly offset: number;
  /** 8: accepted as two words too. */
  readonly bytes: 4 | 8;
  readonly read: (v5: V5Context) => bigint;
  readonly write: (v5: V5Context, value: bigint) => void;
}

type Read = (v5: V5Context) => bigint | number;
type Write = (v5: V5Context, value: number) => void;
const IGNORED: Write = () => {};

const word = (name: string, offset: number, read: Read, write = IGNORED): IrsRegister => ({
  name,
  offset,
  bytes: 4,
  read: (v5) => BigInt(read(v5)),
  write: (v5, value) => write(v5, Number(value)),
});
const fixed = (name: string, offset: number, value: number): IrsRegister =>
  word(name, offset, () => value);

/** CR1: cacheability, and read and write allocation but for the tables that no guest has. */
const CR1_MASK = 0xffff & ~((1 << 9) | (1 << 11));
const IDLE = 1;
const VALID = 2;
const ONLINE = 4;
const SPI_ID = 0xff_ffff;
const IAFFID = 0xffff;
const NON_SECURE = 1;

const selectedSpi = ({ state }: V5Context) => state.spi(state.spiSelr);
const hasSelectedPe = ({ state }: V5Context) => state.cpuById(state.peSelr) !== null;

const readSpiCfgr: Read = (v5) => (selectedSpi(v5)?.config === "level" ? 1 : 0);
const writeSpiCfgr: Write = (v5, value) => {
  const spi = selectedSpi(v5);
  if (spi !== null) configureSpi(v5, spi, (value & 1) !== 0);
};

/** Implementer Arm, product K, as KVM's other controllers. */
const IIDR = 0x04b0_043b;

export const IRS_REGISTERS: readonly IrsRegister[] = [
  word("IRS_IDR0", 0x0, ({ state, vm }) => idr0Of(state, vm.ipaBits)),
  word("IRS_IDR1", 0x4, ({ state }) => idr1Of(state) | state.cpus.length),
  word("IRS_IDR2", 0x8, ({ state }) => idr2Of(state)),
  fixed("IRS_IDR3", 0xc, 0),
  fixed("IRS_IDR4", 0x10, 0),
  word("IRS_IDR5", 0x14, ({ state }) => state.nrSpis),
  word("IRS_IDR6", 0x18, ({ state }) => state.nrSpis),
  fixed("IRS_IDR7", 0x1c, 0),
  fixed("IRS_IIDR", 0x40, IIDR),
  fixed("IRS_AIDR", 0x44, 0),
  word("IRS_CR0", 0x80, ({ state }) => IRS.CR0_IDLE | (state.enabled ? 1 : 0), writeCr0),
  word("IRS_CR1", 0x84, ({ state }) => state.cr1, ({ state }, value) => {
    state.cr1 = value & CR1_MASK;
  }),
  fixed("IRS_SYNCR", 0xc0, 0),
  fixed("IRS_SYNC_STATUSR", 0xc4, IDLE),
  { name: "IRS_SPI_VMR", offset: 0x100, bytes: 8, read: () => 0n, write: () => {} },
  word("IRS_SPI_SELR", 0x108, ({ state }) => state.spiSelr, ({ state }, value) => {
    state.spiSelr = value & SPI_ID;
  }),
  fixed("IRS_SPI_DOMAINR", 0x10c, NON_SECURE),
  fixed("IRS_SPI_RESAMPLER", 0x110, 0),
  word("IRS_SPI_CFGR", 0x114, readSpiCfgr, writeSpiCfgr),
  word("IRS_SPI_STATUSR", 0x118, (v5) => IDLE | (selectedSpi(v5) === null ? 0 : VALID)),
  word("IRS_PE_SELR", 0x140, ({ state }) => state.peSelr, ({ state }, value) => {
    state.peSelr = value & IAFFID;
  }),
  word("IRS_PE_STATUSR", 0x144, (v5) => IDLE | (hasSelectedPe(v5) ? VALID | ONLINE : 0)),
  word("IRS_PE_CR0", 0x148, (v5) => (hasSelectedPe(v5) ? 1 : 0)),
  {
    name: "IRS_IST_BASER",
    offset: 0x180,
    bytes: 8,
    read: ({ state }) => istBaserOf(state),
    write: writeIstBaser,
  },
  word("IRS_IST_CFGR", 0x190, ({ state }) => state.istCfgr, writeIstCfgr),
  fixed("IRS_IST_STATUSR", 0x194, IDLE),
  fixed("IRS_MAP_L2_ISTR", 0x1c0, 0),
  // CoreSight: what IIDR says, in pieces.
  fixed("IRS_DEVARCH", 0xffbc, 0x4770_5a19),
  fixed("IRS_PIDR4", 0xffd0, 4),
  fixed("IRS_PIDR5", 0xffd4, 0),
  fixed("IRS_PIDR6", 0xffd8, 0),
  fixed("IRS_PIDR7", 0xffdc, 0),
  fixed("IRS_PIDR0", 0xffe0, 0x4b),
  fixed("IRS_PIDR1", 0xffe4, 0xb0),
  fixed("IRS_PIDR2", 0xffe8, 0x0b),
  fixed("IRS_PIDR3", 0xffec, 0),
  fixed("IRS_CIDR0", 0xfff0, 0x0d),
  fixed("IRS_CIDR1", 0xfff4, 0xf0),
  fixed("IRS_CIDR2", 0xfff8, 0x05),
  fixed("IRS_CIDR3", 0xfffc, 0xb1),
];


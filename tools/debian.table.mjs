// Owns: what tests and tools take from Debian, by package: its commands, and what they are for.
// Data only.

/**
 * `args` come first on every command line; `{root}` is where the package lies when it was fetched
 * and not installed.
 */
export const TOOLS = [
  {
    package: "qemu-system-arm",
    commands: ["qemu-system-aarch64"],
    args: ["-L", "{root}/usr/share/qemu"],
    why: "whole images beside QEMU's virt machine, and the guest benchmark",
  },
  {
    package: "qemu-user",
    commands: ["qemu-aarch64"],
    why: "random blocks of A64 beside QEMU",
  },
  {
    package: "binutils-aarch64-linux-gnu",
    commands: ["as", "ld", "objcopy", "objdump"].map((name) => `aarch64-linux-gnu-${name}`),
    why: "objdump judges the disassembler; guests are assembled again",
  },
  {
    package: "gcc-aarch64-linux-gnu",
    commands: ["aarch64-linux-gnu-gcc"],
    why: "the benchmark's guest image is built again; it needs no C library",
  },
  {
    package: "gdb-multiarch",
    commands: ["gdb-multiarch"],
    args: ["--data-directory={root}/usr/share/gdb"],
    why: "GDB itself against the GDB stub",
  },
  {
    package: "device-tree-compiler",
    commands: ["dtc"],
    why: "dtc reads the board's device tree",
  },
];

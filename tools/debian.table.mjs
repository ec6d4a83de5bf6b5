// Owns: what tests and tools take from Debian, by package: its commands or image, and what for.
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
  {
    package: "curl",
    commands: ["curl"],
    why: "the README's tour, as it is printed",
  },
];

/**
 * Guests: `file` in `folder` of the package is the image. `means`: the package is empty, and
 * depends on the one that has it.
 */
export const GUESTS = [
  {
    package: "linux-image-cloud-arm64",
    means: /^linux-image-\d/,
    folder: "boot",
    file: /^vmlinuz-/,
    why: "Linux with the fewest instructions up to userland",
  },
  {
    package: "linux-image-arm64",
    means: /^linux-image-\d/,
    folder: "boot",
    file: /^vmlinuz-/,
    why: "Linux with every driver",
  },
  {
    package: "busybox-static",
    folder: "bin",
    file: /^busybox$/,
    why: "userland in one static file",
  },
  {
    package: "u-boot-qemu",
    folder: "usr/lib/u-boot/qemu_arm64",
    file: /^u-boot\.bin$/,
    why: "firmware: flash, fw_cfg, the UART both ways",
  },
];

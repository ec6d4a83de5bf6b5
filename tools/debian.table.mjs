// Owns: what tests and tools take from Debian, by package: its commands or image, and what for.
// Data only.

/**
 * `args` come first on every command line; `{root}` is where the package lies when it was fetched
 * and not installed, `{libraries}` the folder of its machine's libraries there.
 *
 * With `suite` the package is that suite's whatever this machine's is: it brings all libraries
 * along and is started by its own loader, with `environment`. `from` is then Debian's name of it,
 * `program` of its command, which may be another version of one that is here too. `withGuests`:
 * who asks for guests gets it, and `npm test`.
 */
export const TOOLS = [
  {
    package: "qemu-system-arm",
    commands: ["qemu-system-aarch64"],
    args: ["-L", "{root}/usr/share/qemu"],
    why: "whole images beside QEMU's virt machine, and the guest benchmark",
  },
  {
    package: "qemu-system-arm-11",
    from: "qemu-system-arm",
    suite: "trixie-backports",
    commands: ["qemu-system-aarch64-11"],
    program: "qemu-system-aarch64",
    args: ["-L", "{root}/usr/share/qemu"],
    environment: { QEMU_MODULE_DIR: "{libraries}/qemu" },
    withGuests: true,
    why: "a GICv5 beside ours: what the same kernel says of both",
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
  {
    package: "prometheus",
    commands: ["promtool", "prometheus"],
    why: "promtool judges /metrics and the example's rules; Prometheus scrapes two hosts",
  },
  {
    package: "ansible-core",
    commands: ["ansible-playbook"],
    why: "the example's playbook moves a VM between two hosts",
  },
];

/**
 * Guests of arm64: the first file that `file`, a path with `*` in its names, fits is the image. The
 * package is of `suite`, and named `package`, or
 *   means   what the empty package `package` depends on: a kernel has its version in its name
 *   newest  what fits best among the suite's: old versions of backports vanish
 * `also`: another package that goes with it, by its name. `inTests`: `npm test` fetches it too.
 */
export const GUESTS = [
  {
    package: "linux-image-cloud-arm64",
    suite: "bookworm",
    means: /^linux-image-\d/,
    file: "boot/vmlinuz-*",
    inTests: true,
    why: "Linux 6.1, the one with the fewest instructions up to userland",
  },
  {
    package: "linux-binary-7.2-cloud-arm64",
    suite: "trixie-backports",
    newest: /^linux-binary-7\.2\.(\d+)\+deb13-cloud-arm64$/,
    also: (name) => name.replace("-binary-", "-modules-"),
    file: "usr/lib/modules/*/vmlinuz",
    inTests: true,
    why: "Linux 7.2, which knows GICv5",
  },
  {
    package: "busybox-static",
    suite: "bookworm",
    file: "bin/busybox",
    inTests: true,
    why: "userland in one static file",
  },
  {
    package: "u-boot-qemu",
    suite: "bookworm",
    file: "usr/lib/u-boot/qemu_arm64/u-boot.bin",
    inTests: true,
    why: "firmware: flash, fw_cfg, the UART both ways",
  },
];

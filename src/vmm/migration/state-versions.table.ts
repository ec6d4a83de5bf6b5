// Owns: the version of each part of a VM's state that this release writes, and the only one that it
// reads. Any thread: a target says beforehand what it can't read.
export const STATE_VERSIONS = {
  shape: 1,
  vm: 1,
  vcpus: 2,
  irqchip: 2,
  wires: 1,
  unbacked: 1,
  board: 1,
  time: 1,
} as const;

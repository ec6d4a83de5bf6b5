// Owns: subjects of recordings whose ioctls have no implementation yet; data only. Any thread.
// Their files are left out, named in the report, and counted as skipped apart from the rules'
// share; `--all` replays them too. An entry goes when its issue lands.

export const WAITING_SUBJECTS: Readonly<Record<string, string>> = {
  irqfd: "irqfds need an interrupt controller",
  routing: "gsi routing needs an interrupt controller",
  device: "KVM devices are not there yet",
};

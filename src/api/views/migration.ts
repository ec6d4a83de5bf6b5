// Owns: migrations as the wire shows them. HTTP thread.
import type { MigrationResource } from "../services.js";
import { vmPath } from "./vm.js";

export function migrationPath(id: string): string {
  return `/v1/migrations/${encodeURIComponent(id)}`;
}

export function migrationView(migration: MigrationResource) {
  const self = migrationPath(migration.id);
  const links = {
    self,
    rounds: `${self}/rounds`,
    chart: `${self}/chart.svg`,
    cancel: `${self}:cancel`,
    vm: vmPath(migration.vmId),
  };
  return { ...migration, links };
}

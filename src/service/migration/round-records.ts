// Owns: a round as the engine tells it and as the store keeps it, both ways. HTTP thread.
import type { Decision, RoundRecord } from "../../migration/index.js";
import type { MigrationRoundRecord } from "../../store/index.js";

export function roundRecordOf(migrationId: string, round: RoundRecord): MigrationRoundRecord {
  const { decision, ...figures } = round;
  return { migrationId, ...figures, ...decision };
}

export function roundOf(record: MigrationRoundRecord): RoundRecord {
  const { migrationId: _, action, why, isConverging, ...figures } = record;
  const decision = { action: action as Decision["action"], why, isConverging };
  return { ...figures, decision };
}

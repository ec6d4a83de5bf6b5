// Owns: one change of the records → the statements that make it. HTTP thread, in the write queue.
import type { Prisma, PrismaClient } from "../generated/prisma/client.js";
import type { Change, PartChange, VmShape } from "./records.js";
import * as rows from "./rows.js";

type Statements = Prisma.PrismaPromise<unknown>[];

/** @returns the statements of a change, not yet started. */
export function statementsOf(db: PrismaClient, change: Change): Statements {
  switch (change.kind) {
    case "put-vm":
      return putRows(db, "Vm", [rows.vmToRow(change.vm)], "id");
    case "delete-vm":
      return [db.vm.deleteMany({ where: { id: change.id } })];
    case "put-part":
      return partStatement(db, change.vmId, change.change);
    case "put-shape":
      return shapeStatements(db, change.vmId, change.shape);
    case "add-events":
      return putRows(db, "Event", change.events.map(rows.eventToRow));
    case "trim-events":
      return [
        db.$executeRaw`DELETE FROM "Event" WHERE id <=
          (SELECT id FROM "Event" ORDER BY id DESC LIMIT 1 OFFSET ${change.keep})`,
      ];
    case "put-idempotency": {
      const row = rows.idempotencyToRow(change.record);
      return [db.idempotencyKey.upsert({ where: { key: row.key }, create: row, update: row })];
    }
    case "delete-idempotency":
      return [db.idempotencyKey.deleteMany({ where: { key: change.key } })];
    case "trim-idempotency":
      return [
        db.idempotencyKey.deleteMany({ where: { expiresAt: { lte: change.now } } }),
        db.$executeRaw`DELETE FROM "IdempotencyKey" WHERE key IN
          (SELECT key FROM "IdempotencyKey" ORDER BY expiresAt DESC
           LIMIT -1 OFFSET ${change.keep})`,
      ];
    case "put-boot": {
      const row = rows.bootToRow(change.boot);
      return [db.serviceBoot.upsert({ where: { id: row.id }, create: row, update: row })];
    }
    case "trim-boots":
      return [
        db.$executeRaw`DELETE FROM "ServiceBoot" WHERE seq <=
          (SELECT seq FROM "ServiceBoot" ORDER BY seq DESC LIMIT 1 OFFSET ${change.keep})`,
      ];
    case "put-image":
      return putRows(db, "Image", [rows.imageToRow(change.image)]);
    case "delete-image":
      return [db.image.deleteMany({ where: { name: change.name } })];
    case "put-experiment":
      return putRows(db, "Experiment", [rows.experimentToRow(change.experiment)]);
    case "put-experiment-result": {
      const { id, document } = change;
      return [
        db.experimentResult.upsert({
          where: { id },
          create: { id, document },
          update: { document },
        }),
      ];
    }
    case "delete-experiment": {
      const where = { id: change.id };
      return [db.experiment.deleteMany({ where }), db.experimentResult.deleteMany({ where })];
    }
    case "put-snapshot":
    case "delete-snapshot":
    case "put-autosnapshot":
    case "delete-autosnapshot":
      return snapshotStatements(db, change);
    default:
      return migrationStatements(db, change);
  }
}

type SnapshotChange = Extract<Change, { kind: `${string}snapshot` }>;

function snapshotStatements(db: PrismaClient, change: SnapshotChange): Statements {
  switch (change.kind) {
    case "put-snapshot":
      return putRows(db, "Snapshot", [rows.snapshotToRow(change.snapshot)]);
    case "delete-snapshot":
      return [db.snapshot.deleteMany({ where: { id: change.id } })];
    case "put-autosnapshot":
      return putRows(db, "Autosnapshot", [change.autosnapshot]);
    case "delete-autosnapshot":
      return [db.autosnapshot.deleteMany({ where: { vmId: change.vmId } })];
  }
}

function migrationStatements(
  db: PrismaClient,
  change: Extract<Change, { kind: "put-migration" | "put-migration-rounds" | "delete-migration" }>,
): Statements {
  switch (change.kind) {
    case "put-migration":
      return putRows(db, "Migration", [rows.migrationToRow(change.migration)], "id");
    case "put-migration-rounds":
      return putRows(db, "MigrationRound", change.rounds.map(rows.roundToRow));
    case "delete-migration":
      return [db.migration.deleteMany({ where: { id: change.id } })];
  }
}

function partStatement(
  db: PrismaClient,
  vmId: string,
  change: PartChange,
): Prisma.PrismaPromise<unknown>[] {
  switch (change.kind) {
    case "put-capability":
      return putRows(db, "Capability", [rows.capabilityToRow(vmId, change.value)]);
    case "delete-capability":
      return [db.capability.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-memory-object":
      return putRows(db, "MemoryObject", [rows.memoryObjectToRow(vmId, change.value)]);
    case "delete-memory-object":
      return [db.memoryObject.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-guest-memfd":
      return putRows(db, "GuestMemfd", [rows.guestMemfdToRow(vmId, change.value)]);
    case "delete-guest-memfd":
      return [db.guestMemfd.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-memslot":
      return putRows(db, "Memslot", [rows.memslotToRow(vmId, change.value)]);
    case "delete-memslot":
      return [db.memslot.deleteMany({ where: { vmId, slot: BigInt(change.slot) } })];
    case "put-vcpu":
      return putRows(db, "Vcpu", [rows.vcpuToRow(vmId, change.value)]);
  }
}

function shapeStatements(db: PrismaClient, vmId: string, shape: VmShape): Statements {
  const where = { vmId };
  const capabilities = shape.capabilities.map((record) => rows.capabilityToRow(vmId, record));
  const objects = shape.memoryObjects.map((record) => rows.memoryObjectToRow(vmId, record));
  const memfds = shape.guestMemfds.map((record) => rows.guestMemfdToRow(vmId, record));
  const memslots = shape.memslots.map((record) => rows.memslotToRow(vmId, record));
  const vcpus = shape.vcpus.map((record) => rows.vcpuToRow(vmId, record));
  return [
    db.capability.deleteMany({ where }),
    db.memoryObject.deleteMany({ where }),
    db.guestMemfd.deleteMany({ where }),
    db.memslot.deleteMany({ where }),
    db.vcpu.deleteMany({ where }),
    ...putRows(db, "Capability", capabilities),
    ...putRows(db, "MemoryObject", objects),
    ...putRows(db, "GuestMemfd", memfds),
    ...putRows(db, "Memslot", memslots),
    ...putRows(db, "Vcpu", vcpus),
  ];
}

/**
 * Sets rows by their primary key, all of them in one statement that is fed by one JSON document: a
 * model's upsert takes four times as long for one row, its createMany twenty times for many, and
 * all of that time blocks the event loop.
 * @param updates the primary key of a table that others refer to: a row that is there is updated,
 * since replacing it would take theirs with it
 */
function putRows(
  db: PrismaClient,
  table: Prisma.ModelName,
  list: readonly object[],
  updates: string | null = null,
): Prisma.PrismaPromise<unknown>[] {
  const first = list[0];
  if (first === undefined) return [];
  const names = Object.keys(first);
  const columns = names.map((name) => `"${name}"`).join(", ");
  const values = names.map((name) => `json_extract(value, '$.${name}')`).join(", ");
  const from = `INTO "${table}" (${columns}) SELECT ${values} FROM json_each(?)`;
  const sets = names.map((name) => `"${name}" = excluded."${name}"`).join(", ");
  const sql =
    updates === null
      ? `INSERT OR REPLACE ${from}`
      : // Without WHERE the parser takes ON for that of a join.
        `INSERT ${from} WHERE true ON CONFLICT ("${updates}") DO UPDATE SET ${sets}`;
  // Integers of our rows are u32 or counters, so they are exact as JSON numbers.
  const document = JSON.stringify(list, (_, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  );
  return [db.$executeRawUnsafe(sql, document)];
}

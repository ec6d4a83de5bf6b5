// Owns: changes of the records → the statements that make them. HTTP thread, in the write queue.
import type { Prisma, PrismaClient } from "../generated/prisma/client.js";
import type { Change, PartChange, VmShape } from "./records.js";
import * as rows from "./rows.js";

type Statement = Prisma.PrismaPromise<unknown>;

/** Rows for one statement. */
interface Rows {
  readonly table: Prisma.ModelName;
  readonly rows: readonly object[];
  /** Other tables refer to its rows. */
  readonly isParent: boolean;
}

type Steps = (Rows | Statement)[];

/**
 * @returns the statements of changes in their order, not yet started; rows of one table that follow
 * each other are one statement
 */
export function statementsOf(db: PrismaClient, changes: readonly Change[]): Statement[] {
  const joined: Steps = [];
  for (const step of changes.flatMap((change) => stepsOf(db, change))) {
    const last = joined.at(-1);
    const isSame = isRows(step) && last !== undefined && isRows(last) && last.table === step.table;
    if (isSame) joined.splice(-1, 1, { ...last, rows: [...last.rows, ...step.rows] });
    else joined.push(step);
  }
  return joined.map((step) => (isRows(step) ? insert(db, step) : step));
}

function isRows(step: Rows | Statement): step is Rows {
  return "rows" in step;
}

function stepsOf(db: PrismaClient, change: Change): Steps {
  switch (change.kind) {
    case "put-vm":
      return putParents("Vm", [rows.vmToRow(change.vm)]);
    case "delete-vm":
      return [db.vm.deleteMany({ where: { id: change.id } })];
    case "put-part":
      return partStatement(db, change.vmId, change.change);
    case "put-shape":
      return shapeStatements(db, change.vmId, change.shape);
    case "add-events":
      return putRows("Event", change.events.map(rows.eventToRow));
    case "trim-events":
      return [
        db.$executeRaw`DELETE FROM "Event" WHERE id <=
          (SELECT id FROM "Event" ORDER BY id DESC LIMIT 1 OFFSET ${change.keep})`,
      ];
    case "put-idempotency":
      return putRows("IdempotencyKey", [rows.idempotencyToRow(change.record)]);
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
      return putRows("Image", [rows.imageToRow(change.image)]);
    case "delete-image":
      return [db.image.deleteMany({ where: { name: change.name } })];
    case "put-experiment":
      return putRows("Experiment", [rows.experimentToRow(change.experiment)]);
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

function snapshotStatements(db: PrismaClient, change: SnapshotChange): Steps {
  switch (change.kind) {
    case "put-snapshot":
      return putRows("Snapshot", [rows.snapshotToRow(change.snapshot)]);
    case "delete-snapshot":
      return [db.snapshot.deleteMany({ where: { id: change.id } })];
    case "put-autosnapshot":
      return putRows("Autosnapshot", [change.autosnapshot]);
    case "delete-autosnapshot":
      return [db.autosnapshot.deleteMany({ where: { vmId: change.vmId } })];
  }
}

function migrationStatements(
  db: PrismaClient,
  change: Extract<Change, { kind: "put-migration" | "put-migration-rounds" | "delete-migration" }>,
): Steps {
  switch (change.kind) {
    case "put-migration":
      return putParents("Migration", [rows.migrationToRow(change.migration)]);
    case "put-migration-rounds":
      return putRows("MigrationRound", change.rounds.map(rows.roundToRow));
    case "delete-migration":
      return [db.migration.deleteMany({ where: { id: change.id } })];
  }
}

function partStatement(db: PrismaClient, vmId: string, change: PartChange): Steps {
  switch (change.kind) {
    case "put-capability":
      return putRows("Capability", [rows.capabilityToRow(vmId, change.value)]);
    case "delete-capability":
      return [db.capability.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-memory-object":
      return putRows("MemoryObject", [rows.memoryObjectToRow(vmId, change.value)]);
    case "delete-memory-object":
      return [db.memoryObject.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-guest-memfd":
      return putRows("GuestMemfd", [rows.guestMemfdToRow(vmId, change.value)]);
    case "delete-guest-memfd":
      return [db.guestMemfd.deleteMany({ where: { vmId, ordinal: change.ordinal } })];
    case "put-memslot":
      return putRows("Memslot", [rows.memslotToRow(vmId, change.value)]);
    case "delete-memslot":
      return [db.memslot.deleteMany({ where: { vmId, slot: BigInt(change.slot) } })];
    case "put-vcpu":
      return putRows("Vcpu", [rows.vcpuToRow(vmId, change.value)]);
  }
}

function shapeStatements(db: PrismaClient, vmId: string, shape: VmShape): Steps {
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
    ...putRows("Capability", capabilities),
    ...putRows("MemoryObject", objects),
    ...putRows("GuestMemfd", memfds),
    ...putRows("Memslot", memslots),
    ...putRows("Vcpu", vcpus),
  ];
}

/** For tables that no other table refers to. */
function putRows(table: Prisma.ModelName, rows: readonly object[]): Steps {
  return rows.length === 0 ? [] : [{ table, rows, isParent: false }];
}

/** For tables that others refer to, by `id`: replacing a row would take those along. */
function putParents(table: Prisma.ModelName, rows: readonly { readonly id: string }[]): Steps {
  return [{ table, rows, isParent: true }];
}

/**
 * Sets rows by their primary key, all of them in one statement that is fed by one JSON document: a
 * model's upsert takes four times as long for one row, its createMany twenty times for many, and
 * all of that time blocks the event loop.
 */
function insert(db: PrismaClient, { table, rows: list, isParent }: Rows): Statement {
  const names = Object.keys(list[0] ?? {});
  const columns = names.map((name) => `"${name}"`).join(", ");
  const values = names.map((name) => `json_extract(value, '$.${name}')`).join(", ");
  const into = `INTO "${table}" (${columns}) SELECT ${values} FROM json_each(?)`;
  const others = names.filter((name) => name !== "id");
  const set = others.map((name) => `"${name}" = excluded."${name}"`).join(", ");
  const sql = isParent
    ? // A SELECT needs its WHERE here, or SQLite takes ON for a join's.
      `INSERT ${into} WHERE true ON CONFLICT ("id") DO UPDATE SET ${set}`
    : `INSERT OR REPLACE ${into}`;
  // Integers of our rows are u32 or counters, so they are exact as JSON numbers.
  const document = JSON.stringify(list, (_, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  );
  return db.$executeRawUnsafe(sql, document);
}

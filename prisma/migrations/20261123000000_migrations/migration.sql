-- DropIndex
DROP INDEX "Vm_uuid_key";

-- CreateTable
CREATE TABLE "Migration" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "seq" BIGINT NOT NULL,
    "direction" TEXT NOT NULL,
    "vmId" TEXT NOT NULL,
    "vmUuid" TEXT NOT NULL,
    "vmName" TEXT,
    "peer" TEXT NOT NULL,
    "peerSession" TEXT,
    "state" TEXT NOT NULL,
    "point" TEXT NOT NULL,
    "cancelRequested" BOOLEAN NOT NULL,
    "parameters" TEXT NOT NULL,
    "progress" TEXT,
    "decision" TEXT,
    "failure" TEXT,
    "resolution" TEXT,
    "statistics" TEXT,
    "version" INTEGER NOT NULL,
    "bootId" TEXT NOT NULL,
    "createdAt" TEXT NOT NULL,
    "startedAt" TEXT,
    "endedAt" TEXT
);

-- CreateTable
CREATE TABLE "MigrationRound" (
    "migrationId" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "startMs" REAL NOT NULL,
    "durationMs" REAL NOT NULL,
    "pagesDirty" BIGINT NOT NULL,
    "pagesSent" BIGINT NOT NULL,
    "pagesZero" BIGINT NOT NULL,
    "pagesDuplicate" BIGINT NOT NULL,
    "bytes" BIGINT NOT NULL,
    "dirtyPagesPerSecond" REAL NOT NULL,
    "bytesPerSecond" REAL NOT NULL,
    "throttlePercent" INTEGER NOT NULL,
    "predictedDowntimeMs" REAL,
    "action" TEXT NOT NULL,
    "why" TEXT NOT NULL,
    "isConverging" BOOLEAN NOT NULL,

    PRIMARY KEY ("migrationId", "round"),
    CONSTRAINT "MigrationRound_migrationId_fkey" FOREIGN KEY ("migrationId") REFERENCES "Migration" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateIndex
CREATE INDEX "Vm_uuid_idx" ON "Vm"("uuid");

-- CreateIndex
CREATE UNIQUE INDEX "Migration_seq_key" ON "Migration"("seq");

-- CreateTable
CREATE TABLE "Snapshot" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "seq" BIGINT NOT NULL,
    "name" TEXT,
    "kind" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "stateReason" TEXT,
    "problem" TEXT,
    "origin" TEXT NOT NULL,
    "vmId" TEXT NOT NULL,
    "vmUuid" TEXT NOT NULL,
    "vmName" TEXT,
    "parentId" TEXT,
    "chainId" TEXT NOT NULL,
    "memoryBytes" BIGINT NOT NULL,
    "fileBytes" BIGINT,
    "sha256" TEXT,
    "pagesStored" BIGINT NOT NULL,
    "pagesZero" BIGINT NOT NULL,
    "rounds" INTEGER NOT NULL,
    "pauseMs" REAL,
    "images" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "createdAt" TEXT NOT NULL,
    "finishedAt" TEXT
);

-- CreateTable
CREATE TABLE "Autosnapshot" (
    "vmId" TEXT NOT NULL PRIMARY KEY,
    "everySeconds" INTEGER NOT NULL,
    "keep" INTEGER NOT NULL,
    "differential" BOOLEAN NOT NULL,
    "createdAt" TEXT NOT NULL,
    "updatedAt" TEXT NOT NULL
);

-- CreateIndex
CREATE UNIQUE INDEX "Snapshot_seq_key" ON "Snapshot"("seq");

-- CreateIndex
CREATE INDEX "Snapshot_vmId_idx" ON "Snapshot"("vmId");

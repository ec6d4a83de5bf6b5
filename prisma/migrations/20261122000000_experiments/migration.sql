-- CreateTable
CREATE TABLE "Experiment" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "seq" BIGINT NOT NULL,
    "name" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "stateReason" TEXT,
    "spec" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "done" INTEGER NOT NULL,
    "total" INTEGER NOT NULL,
    "createdAt" TEXT NOT NULL,
    "startedAt" TEXT,
    "finishedAt" TEXT
);

-- CreateTable
CREATE TABLE "ExperimentResult" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "document" TEXT NOT NULL
);

-- CreateIndex
CREATE UNIQUE INDEX "Experiment_seq_key" ON "Experiment"("seq");

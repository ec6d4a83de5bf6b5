-- AlterTable
ALTER TABLE "MigrationRound" ADD COLUMN "downtimeMs" REAL;
ALTER TABLE "MigrationRound" ADD COLUMN "dirtyLimitPagesPerSecond" BIGINT NOT NULL DEFAULT 0;

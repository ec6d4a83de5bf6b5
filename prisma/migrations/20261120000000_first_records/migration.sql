-- CreateTable
CREATE TABLE "Vm" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "seq" BIGINT NOT NULL,
    "uuid" TEXT NOT NULL,
    "name" TEXT,
    "labels" TEXT NOT NULL,
    "definition" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "stateReason" TEXT,
    "version" INTEGER NOT NULL,
    "starts" INTEGER NOT NULL,
    "bootId" TEXT NOT NULL,
    "createdAt" TEXT NOT NULL,
    "updatedAt" TEXT NOT NULL
);

-- CreateTable
CREATE TABLE "Capability" (
    "vmId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "cap" BIGINT NOT NULL,
    "flags" BIGINT NOT NULL,
    "args" TEXT NOT NULL,
    "tentative" BOOLEAN NOT NULL,

    PRIMARY KEY ("vmId", "ordinal"),
    CONSTRAINT "Capability_vmId_fkey" FOREIGN KEY ("vmId") REFERENCES "Vm" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "MemoryObject" (
    "vmId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "objectId" INTEGER NOT NULL,
    "userspaceAddr" TEXT NOT NULL,
    "size" TEXT NOT NULL,
    "backing" TEXT NOT NULL,
    "hugePages" BOOLEAN NOT NULL,

    PRIMARY KEY ("vmId", "ordinal"),
    CONSTRAINT "MemoryObject_vmId_fkey" FOREIGN KEY ("vmId") REFERENCES "Vm" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "GuestMemfd" (
    "vmId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "memfdId" INTEGER NOT NULL,
    "size" TEXT NOT NULL,
    "flags" TEXT NOT NULL,
    "closed" BOOLEAN NOT NULL,

    PRIMARY KEY ("vmId", "ordinal"),
    CONSTRAINT "GuestMemfd_vmId_fkey" FOREIGN KEY ("vmId") REFERENCES "Vm" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Memslot" (
    "vmId" TEXT NOT NULL,
    "slot" BIGINT NOT NULL,
    "flags" BIGINT NOT NULL,
    "guestPhysAddr" TEXT NOT NULL,
    "memorySize" TEXT NOT NULL,
    "userspaceAddr" TEXT NOT NULL,
    "guestMemfd" INTEGER,
    "guestMemfdOffset" TEXT NOT NULL,

    PRIMARY KEY ("vmId", "slot"),
    CONSTRAINT "Memslot_vmId_fkey" FOREIGN KEY ("vmId") REFERENCES "Vm" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Vcpu" (
    "vmId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "vcpuId" BIGINT NOT NULL,

    PRIMARY KEY ("vmId", "ordinal"),
    CONSTRAINT "Vcpu_vmId_fkey" FOREIGN KEY ("vmId") REFERENCES "Vm" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Event" (
    "id" BIGINT NOT NULL PRIMARY KEY,
    "type" TEXT NOT NULL,
    "time" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "data" TEXT NOT NULL
);

-- CreateTable
CREATE TABLE "IdempotencyKey" (
    "key" TEXT NOT NULL PRIMARY KEY,
    "fingerprint" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "bootId" TEXT NOT NULL,
    "status" INTEGER,
    "headers" TEXT,
    "body" TEXT,
    "createdAt" TEXT NOT NULL,
    "expiresAt" TEXT NOT NULL
);

-- CreateTable
CREATE TABLE "ServiceBoot" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "seq" BIGINT NOT NULL,
    "version" TEXT NOT NULL,
    "startedAt" TEXT NOT NULL,
    "endedAt" TEXT
);

-- CreateIndex
CREATE UNIQUE INDEX "Vm_seq_key" ON "Vm"("seq");

-- CreateIndex
CREATE UNIQUE INDEX "Vm_uuid_key" ON "Vm"("uuid");

-- CreateIndex
CREATE INDEX "IdempotencyKey_expiresAt_idx" ON "IdempotencyKey"("expiresAt");

-- CreateIndex
CREATE UNIQUE INDEX "ServiceBoot_seq_key" ON "ServiceBoot"("seq");



// Owns: where Prisma's command line finds schema, migrations and database. Development only.
import { defineConfig } from "prisma/config";

export default defineConfig({
  schema: "prisma/schema.prisma",
  migrations: { path: "prisma/migrations" },
  datasource: { url: "file:./data/tidemark.db" },
});

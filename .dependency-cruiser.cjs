// Owns: the arrows between rooms (ARCHITECTURE.md). One `may` table makes one rule per room.
const may = {
  base: [],
  machine: ["base"],
  kvm: ["base", "machine"],
  vmm: ["base", "machine", "kvm"],
  runtime: ["base", "vmm"],
  migration: ["base", "runtime"],
  store: ["base"],
  service: ["base", "store", "runtime", "migration"],
  api: ["base", "service"],
  cli: ["base"],
};
const rooms = Object.keys(may);
const others = (room) => rooms.filter((other) => other !== room && !may[room].includes(other));

const arrows = rooms
  .filter((room) => others(room).length > 0)
  .map((room) => ({
    name: `arrow-${room}`,
    comment: `${room} may import ${may[room].join(", ") || "nothing"}; arrows point down only.`,
    severity: "error",
    from: { path: `^src/${room}/` },
    to: { path: `^src/(${others(room).join("|")})/` },
  }));

/** Only `room` may use these packages. */
const only = (room, packages) => ({
  name: `only-${room}`,
  comment: `Only src/${room} may use ${packages}.`,
  severity: "error",
  from: { path: "^src/", pathNot: `^src/(${room}|generated)/` },
  to: { path: `(^|/)node_modules/(${packages})(/|$)` },
});

module.exports = {
  forbidden: [
    ...arrows,
    {
      name: "front-door",
      comment: "Enter another room by its index.ts; base has no front door.",
      severity: "error",
      from: { path: "^src/([^/]+)/" },
      to: {
        path: "^src/(?!base/|generated/)[^/]+/",
        pathNot: ["^src/$1/", "^src/[^/]+/index\\.ts$"],
      },
    },
    {
      name: "known-room",
      comment: "A folder under src that this table does not name has no rules yet: name it here.",
      severity: "error",
      from: { path: "^src/" },
      to: { path: `^src/(?!(${rooms.join("|")}|generated)/)[^/]+/` },
    },
    {
      name: "rooms-know-no-wiring",
      comment: "app.ts, main.ts and config.ts stand above the rooms; cli starts them.",
      severity: "error",
      from: { path: "^src/[^/]+/", pathNot: "^src/cli/" },
      to: { path: "^src/[^/]+\\.ts$" },
    },
    {
      name: "only-app-knows-every-room",
      comment: "main.ts, config.ts and cli.ts reach rooms through app.ts; base is free.",
      severity: "error",
      from: { path: "^src/[^/]+\\.ts$", pathNot: "^src/app\\.ts$" },
      to: { path: "^src/[^/]+/", pathNot: "^src/base/" },
    },
    {
      name: "database-client-in-store",
      comment: "Rows stay in store; other rooms see plain records.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(store|generated)/" },
      to: { path: "^src/generated/prisma/" },
    },
    {
      name: "client-types-in-cli",
      comment: "What is made from the document is for clients; the rooms make the document.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(cli|generated)/" },
      to: { path: "^src/generated/client\\.ts$" },
    },
    only("api", "@?fastify[^/]*|typebox|ajv-formats|prom-client|echarts|zrender"),
    only("store", "@?prisma|better-sqlite3"),
    {
      name: "lower-rooms-use-no-packages",
      comment: "What the VM thread runs is ours alone; Node's own modules are free.",
      severity: "error",
      from: { path: "^src/(base|machine|kvm|vmm|runtime|migration|service|cli)/" },
      to: { path: "(^|/)node_modules/", pathNot: "(^|/)node_modules/@types/node/" },
    },
    {
      name: "not-to-dev",
      comment: "The image has no development dependencies.",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg"], pathNot: "node_modules/@types/" },
    },
    {
      name: "no-circular",
      severity: "error",
      from: { pathNot: "^src/generated/" },
      to: { circular: true },
    },
    {
      name: "no-orphans",
      comment: "A file that nobody imports is dead, or an entry that must be named here.",
      severity: "error",
      from: { orphan: true, path: "^src/", pathNot: "^src/generated/|\\.(worker|d)\\.ts$" },
      to: {},
    },
    { name: "resolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    // Type-only imports count too: a room that knows another's types knows the other.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node"] },
  },
};

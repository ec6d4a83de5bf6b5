// Owns: /v1/migrations and /v1/peers: VMs that move, as jobs. HTTP thread.
import { EVENT_STREAM, JSON_TYPE, MERGE_PATCH, negotiate, preferredWait } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { ifMatch, makeEtag } from "../etag.js";
import { followMigration, untilEnded } from "../migration-stream.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { WAIT_MAX_S } from "../schemas/common.schema.js";
import {
  Migration,
  MigrationChart,
  MigrationCreate,
  MigrationGetQuery,
  MigrationListQuery,
  MigrationPage,
  MigrationParams,
  MigrationPatch,
  MigrationResolve,
  MigrationStream,
  PeerPage,
  Preflight,
  RoundList,
  VerdictAnswer,
} from "../schemas/migrations.schema.js";
import type { MigrationRequest, MigrationResource } from "../services.js";
import { streamOf } from "../sse.js";
import { ETAG, IF_MATCH, LOCATION, MS_PER_S, sendPage } from "../support.js";
import { migrationPath, migrationView } from "../views/migration.js";
import { migrationChart } from "../views/migration-chart.js";

const ROOT = "/v1/migrations";
const SVG = "image/svg+xml";
const tag = "migrations";
const one = { tag, path: `${ROOT}/{migration}`, params: MigrationParams } as const;

const etagOf = ({ version, state }: MigrationResource): string => makeEtag(version, state);

function createMigration(deps: ApiDeps): Operation {
  const { migrations } = deps.services;
  return operation({
    id: "createMigration",
    method: "POST",
    path: ROOT,
    tag,
    scope: "migration:write",
    heavy: true,
    summary: "Move a VM to another host",
    description:
      "A job, on disk before the answer. One at a time per VM; more than the host runs at once " +
      "wait in order. With `validateOnly` both hosts say what they would refuse, and nothing " +
      "moves. `Prefer: wait=N` waits for the end.",
    body: MigrationCreate,
    answers: {
      200: json("With `validateOnly`: what a dry run found.", Preflight),
      202: withHeaders(json("The job.", Migration), { ...LOCATION, ...ETAG }),
    },
    problems: [
      ...["validation", "peer-unknown", "vm-not-found", "vm-not-active", "vm-migrated"],
      ...["vm-incoming", "migration-in-progress", "migration-refused", "migration-limit"],
      ...["peer-unreachable", "peer-certificate", "peer-refused", "draining"],
      "store-unavailable",
    ] as const,
    handle: async ({ body, request, reply }) => {
      const { vmId, peer, strategy, parameters, validateOnly } = body;
      const more = strategy === undefined ? {} : { strategy };
      const asked = { vmId, peer, parameters: { ...parameters, ...more } } as MigrationRequest;
      if (validateOnly === true) return migrations.preflight(asked);
      const made = await migrations.create(asked);
      const waitS = preferredWait(request, WAIT_MAX_S);
      const now = waitS === null ? made : await untilEnded(deps, made.id, waitS * MS_PER_S);
      reply.header("location", migrationPath(made.id)).header("etag", etagOf(now));
      if (waitS !== null) reply.header("preference-applied", `wait=${waitS}`);
      return reply.code(202).header("retry-after", "1").send(migrationView(now));
    },
  });
}

function reads(deps: ApiDeps): readonly Operation[] {
  const { migrations } = deps.services;
  return [
    operation({
      id: "listPeers",
      method: "GET",
      path: "/v1/peers",
      tag,
      scope: "migration:read",
      summary: "List the hosts that VMs may move to",
      description: "This host as `local`, and those of its list, PEERS_FILE.",
      answers: { 200: json("All of them.", PeerPage) },
      handle: () => ({ items: migrations.peers(), nextCursor: null }),
    }),
    operation({
      id: "listMigrations",
      method: "GET",
      path: ROOT,
      tag,
      scope: "migration:read",
      summary: "List migrations",
      description: "Both directions, in order of creation.",
      query: MigrationListQuery,
      answers: { 200: json("One page.", MigrationPage) },
      problems: ["cursor-invalid"],
      handle: async ({ query, request, reply }) => {
        const { direction = null, state = null, vmId = null, limit = 100, cursor = null } = query;
        const page = await migrations.list({ direction, state, vmId, limit, cursor });
        return sendPage({ request, reply }, page, migrationView);
      },
    }),
    readMigration(deps),
    operation({
      ...one,
      id: "listMigrationRounds",
      method: "GET",
      path: `${one.path}/rounds`,
      scope: "migration:read",
      summary: "Read a migration's rounds",
      description: "What each round sent, and why the policy decided what it decided.",
      answers: { 200: json("Every round.", RoundList) },
      problems: ["migration-not-found"],
      handle: async ({ params }) => {
        return { items: await migrations.rounds(params.migration), nextCursor: null };
      },
    }),
    operation({
      ...one,
      id: "getMigrationChart",
      method: "GET",
      path: `${one.path}/chart.svg`,
      scope: "migration:read",
      heavy: true,
      summary: "Look at a migration",
      description:
        "Bytes left, dirty rate, bandwidth and throttle by round; the switchover marked.",
      answers: {
        200: { description: "The picture.", content: { [SVG]: { schema: MigrationChart } } },
      },
      problems: ["migration-not-found"],
      handle: async ({ params, reply }) => {
        const found = await migrations.get(params.migration);
        const rounds = await migrations.rounds(params.migration);
        return reply.type(SVG).send(await migrationChart(found, rounds));
      },
    }),
    operation({
      ...one,
      id: "getMigrationVerdict",
      method: "GET",
      path: `${one.path}/verdict`,
      scope: "migration:read",
      summary: "Ask the source whether the VM is the target's",
      description: "What a target that is ready asks until it is told.",
      answers: { 200: json("The source's word.", VerdictAnswer) },
      problems: ["migration-not-found", "migration-side"],
      handle: async ({ params }) => ({ verdict: await migrations.verdict(params.migration) }),
    }),
  ];
}

function readMigration(deps: ApiDeps): Operation {
  const { migrations } = deps.services;
  return operation({
    ...one,
    id: "getMigration",
    method: "GET",
    scope: "migration:read",
    sse: true,
    summary: "Read or follow a migration",
    description:
      "Progress, the policy's last decision, statistics; they stay after its end, however it " +
      "ended. With `wait` the answer comes at the end, or after that many seconds. With Accept: " +
      "text/event-stream each change is an event, `migration.ended` the last.",
    query: MigrationGetQuery,
    answers: {
      200: {
        ...withHeaders(json("The migration.", Migration), ETAG),
        content: {
          [JSON_TYPE]: { schema: Migration },
          [EVENT_STREAM]: { schema: MigrationStream },
        },
      },
    },
    problems: ["migration-not-found", "not-acceptable"],
    handle: async ({ params, query, request, reply }) => {
      const stream = streamOf(reply);
      const type = negotiate(request, [JSON_TYPE, EVENT_STREAM]);
      if (type === EVENT_STREAM && stream !== undefined && request.method === "GET") {
        // What isn't there is a problem, not a stream.
        await migrations.get(params.migration);
        return followMigration(deps, stream, params.migration);
      }
      const waitMs = (query.wait ?? 0) * MS_PER_S;
      const found = await untilEnded(deps, params.migration, waitMs);
      return reply.header("etag", etagOf(found)).send(migrationView(found));
    },
  });
}

function changes({ services }: ApiDeps): readonly Operation[] {
  const { migrations } = services;
  return [
    operation({
      ...one,
      id: "patchMigration",
      method: "PATCH",
      scope: "migration:write",
      summary: "Change a migration's limits",
      description: "RFC 7396 merge patch; takes effect at once, at the source alone.",
      body: MigrationPatch,
      bodyType: MERGE_PATCH,
      headers: IF_MATCH,
      answers: { 200: withHeaders(json("The migration.", Migration), ETAG) },
      problems: ["migration-not-found", "migration-ended", "migration-side", "precondition-failed"],
      handle: async ({ params, body, request, reply }) => {
        const [match = null] = ifMatch(request) ?? [];
        const changed = await migrations.adjust(params.migration, body, match);
        reply.header("etag", etagOf(changed));
        return reply.type(JSON_TYPE).send(migrationView(changed));
      },
    }),
    operation({
      ...one,
      id: "deleteMigration",
      method: "DELETE",
      scope: "migration:write",
      summary: "Forget a migration",
      description: "Of one that has ended; its rounds go with it.",
      answers: { 204: empty("It is gone.") },
      problems: ["migration-not-found", "migration-not-ended"],
      handle: async ({ params, reply }) => {
        await migrations.delete(params.migration);
        return reply.code(204).send();
      },
    }),
    operation({
      ...one,
      id: "resolveMigration",
      method: "POST",
      path: `${one.path}:resolve`,
      scope: "migration:write",
      summary: "Settle a migration whose peer never returns",
      description:
        "An operator's word, kept with its reason. To be given at both sides alike: whoever says " +
        "that a VM runs here takes the blame if it runs there, too.",
      body: MigrationResolve,
      answers: { 200: json("The migration.", Migration) },
      problems: ["migration-not-found", "migration-ended", "migration-state", "store-unavailable"],
      handle: async ({ params, body }) => {
        return migrationView(await migrations.resolve(params.migration, body.runsOn, body.reason));
      },
    }),
  ];
}

function verbs({ services }: ApiDeps): readonly Operation[] {
  const { migrations } = services;
  const act = (
    verb: string,
    id: string,
    summary: string,
    description: string,
    run: (migration: string) => Promise<MigrationResource>,
    problem: "migration-committed" | "migration-state",
  ): Operation =>
    operation({
      ...one,
      id,
      method: "POST",
      path: `${one.path}:${verb}`,
      scope: "migration:write",
      summary,
      description,
      answers: { 200: json("The migration.", Migration) },
      problems: ["migration-not-found", "migration-ended", problem],
      handle: async ({ params }) => migrationView(await run(params.migration)),
    });
  return [
    act(
      "cancel",
      "cancelMigration",
      "Cancel a migration",
      "Idempotent, in every phase until the VM is handed over; the VM goes on at the source. " +
        "`cancelRequested` says that it is wanted, the state cancelled that it is done.",
      (id) => migrations.cancel(id),
      "migration-committed",
    ),
    act(
      "continue",
      "continueMigration",
      "Let a paused switchover go on",
      "Out of pre-switchover, where `pauseBeforeSwitchover` made it wait.",
      (id) => migrations.proceed(id),
      "migration-state",
    ),
    act(
      "start-postcopy",
      "startPostcopy",
      "Switch to post-copy",
      "The VM moves at once, and its pages follow as they are needed.",
      (id) => migrations.startPostcopy(id),
      "migration-state",
    ),
    act(
      "recover",
      "recoverMigration",
      "Go on after a cut in post-copy",
      "Out of postcopy-paused.",
      (id) => migrations.recover(id),
      "migration-state",
    ),
  ];
}

export function migrationOperations(deps: ApiDeps): readonly Operation[] {
  return [createMigration(deps), ...reads(deps), ...changes(deps), ...verbs(deps)];
}

// Owns: /v1/incoming-migrations: what a source asks the host that its VM moves to. HTTP thread.
import Type from "typebox";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation } from "../operation.js";
import {
  IncomingAbort,
  IncomingCreate,
  IncomingFinished,
  IncomingFinishQuery,
  IncomingImageBytes,
  IncomingImageParams,
  IncomingImageQuery,
  IncomingStatus,
  MigrationOffer,
  MigrationState,
} from "../schemas/incoming.schema.js";
import { MigrationParams, Preflight } from "../schemas/migrations.schema.js";
import type { MigrationParameters, Passport } from "../services.js";

const ROOT = "/v1/incoming-migrations";
const tag = "incoming-migrations";
const scope = "migration:write" as const;
const one = { tag, path: `${ROOT}/{migration}`, params: MigrationParams } as const;

function offers({ services, options }: ApiDeps): readonly Operation[] {
  const { incoming } = services;
  return [
    operation({
      id: "offerMigration",
      method: "POST",
      path: ROOT,
      tag,
      scope,
      heavy: true,
      summary: "Offer a VM",
      description:
        "Builds the VM from its passport, held, and says where its pages go. The same session of " +
        "the same source again gives the same answer. With `validateOnly` nothing is built.",
      body: IncomingCreate,
      bodyLimit: options.binaryBodyBytes,
      answers: {
        200: json(
          "The offer as it was, or with `validateOnly` what would be refused.",
          Type.Union([MigrationOffer, Preflight]),
        ),
        201: json("The VM is built and held.", MigrationOffer),
      },
      problems: [
        ...["validation", "images-missing", "uuid-taken", "migration-version", "target-memory"],
        ...["session-aborted", "session-refused", "vm-limit", "draining", "kvm-errno"],
        ...["target-eventfds", "eventfd-busy"],
      ] as const,
      handle: async ({ body, reply }) => {
        const passport = body.passport as unknown as Passport;
        if (body.validateOnly === true) return incoming.check(passport);
        const parameters = (body.parameters ?? {}) as Partial<MigrationParameters>;
        const { offer, isNew } = await incoming.offer(passport, parameters);
        return reply.code(isNew ? 201 : 200).send(offer);
      },
    }),
    operation({
      id: "putIncomingImage",
      method: "PUT",
      path: "/v1/incoming-images/{sha256}",
      tag,
      scope,
      heavy: true,
      summary: "Send an image that a VM to come needs",
      description: "Checked against its hash; one that is there already is left as it is.",
      params: IncomingImageParams,
      query: IncomingImageQuery,
      octets: { schema: IncomingImageBytes, limit: options.binaryBodyBytes },
      answers: { 204: empty("It is here.") },
      problems: ["image-hash", "image-limit", "body-too-large"],
      handle: async ({ params, query, body, reply }) => {
        await incoming.putImage(params.sha256, query.name, body as unknown as Uint8Array);
        return reply.code(204).send();
      },
    }),
  ];
}

function sessions({ services, options }: ApiDeps): readonly Operation[] {
  const { incoming } = services;
  return [
    operation({
      ...one,
      id: "getIncomingMigration",
      method: "GET",
      scope: "migration:read",
      summary: "Ask the target how far it is",
      description: "Its whole session is under `/v1/migrations/{migration}`.",
      answers: { 200: json("State and point.", IncomingStatus) },
      problems: ["migration-not-found"],
      handle: ({ params }) => incoming.status(params.migration),
    }),
    operation({
      ...one,
      id: "finishMigration",
      method: "POST",
      path: `${one.path}:finish`,
      scope,
      idempotency: "none",
      summary: "Hand over the state",
      description:
        "Of vCPUs and devices, after the last page. The target loads it and is ready, durably. " +
        "The same bytes again change nothing.",
      query: IncomingFinishQuery,
      octets: { schema: MigrationState, limit: options.binaryBodyBytes },
      answers: { 200: json("The target is ready.", IncomingFinished) },
      problems: [
        ...["migration-not-found", "session-aborted", "session-refused", "session-later"],
        ...["body-too-large"],
      ] as const,
      handle: async ({ params, query, body }) => {
        const state = body as unknown as Uint8Array;
        const digest = query.digest ?? null;
        return { digest: await incoming.finish(params.migration, state, digest) };
      },
    }),
    operation({
      ...one,
      id: "commitMigration",
      method: "POST",
      path: `${one.path}:commit`,
      scope,
      idempotency: "none",
      summary: "Say that the source has released the VM",
      description: "The target runs it, durably; from then on it is this host's. Idempotent.",
      answers: { 200: json("State and point.", IncomingStatus) },
      problems: ["migration-not-found", "session-aborted", "session-refused", "session-later"],
      handle: ({ params }) => incoming.commit(params.migration),
    }),
    operation({
      ...one,
      id: "abortMigration",
      method: "POST",
      path: `${one.path}:abort`,
      scope,
      idempotency: "none",
      summary: "Say that the VM stays at the source",
      description: "The VM that was built goes. Idempotent; refused once it runs here.",
      body: IncomingAbort,
      answers: { 200: json("State and point.", IncomingStatus) },
      problems: ["migration-not-found", "session-running", "session-ready"],
      handle: ({ params, body }) =>
        incoming.abort(params.migration, body.why, body.unlessReady ?? false),
    }),
  ];
}

export function incomingOperations(deps: ApiDeps): readonly Operation[] {
  return [...offers(deps), ...sessions(deps)];
}

// Owns: the HTTP face's front door: one Fastify instance made from options and services.
// HTTP thread. Knows no port and no process: main.ts listens, app.ts wires.
//
//   every request:  trace ─▶ phase ─▶ overload ─▶ token ─▶ rate ─▶ media type ─▶ shape ─▶ key
//                   ─▶ one service call ─▶ answer ─▶ metrics, log line
import rateLimit from "@fastify/rate-limit";
import sse from "@fastify/sse";
import underPressure from "@fastify/under-pressure";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync,
  LogController,
} from "fastify";
import type { Clock } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import "./augment.js";
import { authHook } from "./auth.js";
import { Bindings } from "./bindings.js";
import { registerConnections } from "./connections.js";
import { OCTETS, readOctets } from "./content.js";
import type { ApiDeps } from "./deps.js";
import { registerDocs } from "./docs.js";
import { idempotencyHooks } from "./idempotency.js";
import { registerJsonParser } from "./json-body.js";
import { Lifecycle } from "./lifecycle.js";
import { logAnswer } from "./logging.js";
import { createMetrics, type Metrics } from "./metrics.js";
import { answerClientError, registerNotFound } from "./not-found.js";
import { openApiDocument } from "./openapi.js";
import { addRoute, type Operation, type RateLimit } from "./operation.js";
import type { ApiOptions } from "./options.js";
import { sendProblem } from "./problem.js";
import { allOperations } from "./routes/index.js";
import type { Services } from "./services.js";
import { traceOfMessage, traceparent } from "./trace.js";
import { mediaTypeHook, schemaErrorFormatter, validatorCompiler } from "./validation.js";

export { readTokens, type TokenTable } from "./auth.js";
export { createLogger } from "./logging.js";
export type { ApiOptions } from "./options.js";

export interface ApiParts {
  readonly options: ApiOptions;
  readonly services: Services;
  readonly clock: Clock;
  readonly log: FastifyBaseLogger;
}

export interface Api {
  readonly app: FastifyInstance;
  readonly lifecycle: Lifecycle;
}

const PARAM_CHARS_MAX = 256;
/** A request has this long to arrive; a trickle of bytes must not hold a socket for ever. */
const REQUEST_MS = 120_000;
const RATE_WINDOW_MS = 60_000;
const HEAVY_SHARE = 10;

/** Builds the HTTP face; nothing listens yet. */
export function buildApi(parts: ApiParts): Api {
  const { options, services, clock, log } = parts;
  const lifecycle = new Lifecycle();
  const metrics = createMetrics(services, options.version);
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.jsonBodyBytes,
    genReqId: (raw) => traceOfMessage(raw).spanId,
    routerOptions: { maxParamLength: PARAM_CHARS_MAX },
    requestTimeout: REQUEST_MS,
    return503OnClosing: false,
    schemaErrorFormatter: (errors, part) => schemaErrorFormatter(errors, part),
    frameworkErrors: (error, request, reply) => sendProblem(error, request, reply as never),
    clientErrorHandler: answerClientError,
    ...tlsOf(options),
  });
  let text: string | null = null;
  const document = () => {
    text ??= JSON.stringify(openApiDocument(operations, options.version));
    return text;
  };
  const bindings = new Bindings();
  const deps: ApiDeps = { options, services, clock, lifecycle, metrics, bindings, document };
  const operations = allOperations(deps);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply));
  registerBodyParsers(app);
  registerRequestHooks(app, deps, metrics);
  followEvents(app, services, metrics);
  registerNotFound(app, operations);
  registerDocs(app, document);
  app.register(operationsPlugin(deps, operations));
  registerConnections(app, lifecycle);
  return { app, lifecycle };
}

/** With its own type an instance over TLS would be another for everything that is given one. */
function tlsOf({ tls = null }: ApiOptions): object {
  return tls === null ? {} : { https: { cert: tls.certificate, key: tls.key } };
}

/** JSON, and bytes by our own reader. */
function registerBodyParsers(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  registerJsonParser(app);
  app.addContentTypeParser(OCTETS, readOctets);
}

function registerRequestHooks(app: FastifyInstance, deps: ApiDeps, metrics: Metrics): void {
  app.decorateRequest("principal", null);
  app.decorateRequest("idempotencyKey", null);
  app.decorateRequest("replayedLocation", null);
  app.decorateRequest("trace", {
    getter() {
      return traceOfMessage(this.raw);
    },
  });
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("traceparent", traceparent(request.trace));
    reply.header("x-request-id", request.id);
    const isPublic = (request.routeOptions.config.scope ?? null) === null;
    if (deps.lifecycle.phase !== "closing" || isPublic) return done();
    return done(new ServiceError("draining", "The service is about to exit."));
  });
  app.addHook("onResponse", (request, reply, done) => {
    const route = request.is404 ? "none" : (request.routeOptions.url ?? "none");
    metrics.answered(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
    logAnswer(request, reply, reply.elapsedTime);
    done();
  });
}

/** Not before it listens: an instance that only makes the document has no services. */
function followEvents(app: FastifyInstance, services: Services, metrics: Metrics): void {
  let leave = () => {};
  app.addHook("onListen", (done) => {
    leave = services.events.subscribe((event) => metrics.told(event));
    done();
  });
  app.addHook("onClose", (_app, done) => {
    leave();
    done();
  });
}

function operationsPlugin(deps: ApiDeps, operations: readonly Operation[]): FastifyPluginAsync {
  return (app) => registerOperations(app, deps, operations);
}

/** Everything that has its page in the document, behind the guards: those must be there first. */
async function registerOperations(
  app: FastifyInstance,
  deps: ApiDeps,
  operations: readonly Operation[],
): Promise<void> {
  const { options, services } = deps;
  if (options.overloadDelayMs > 0) {
    await app.register(underPressure, {
      maxEventLoopDelay: options.overloadDelayMs,
      pressureHandler: (request, _reply, _kind, delay) => {
        // Health checks must tell overload from death.
        if ((request.routeOptions.config.scope ?? null) === null) return;
        refuseIfSlow(delay);
      },
    });
  }
  if (options.tokens !== null) app.addHook("onRequest", authHook(options.tokens));
  const isLimited = options.rateLimitPerMinute > 0;
  if (isLimited) {
    await app.register(rateLimit, {
      max: options.rateLimitPerMinute,
      timeWindow: RATE_WINDOW_MS,
      enableDraftSpec: true,
      keyGenerator: (request) => request.principal ?? request.ip,
      errorResponseBuilder: (_request, { after }) =>
        new ServiceError("rate-limited", `The limit is reached; ask again in ${after}.`),
    });
  }
  await app.register(sse as never, { heartbeatInterval: options.heartbeatMs });
  const hooks = idempotencyHooks(services.idempotency);
  app.addHook("onRoute", (route) => {
    if (route.method !== "GET" && route.method !== "HEAD") route.preParsing = mediaTypeHook;
    if ((route.config?.idempotency ?? "none") === "none") return;
    route.preHandler = hooks.preHandler as never;
    route.onSend = hooks.onSend as never;
  });
  for (const op of operations) addRoute(app, op, isLimited ? rateOf(options, op) : null);
}

/**
 * @param delay of the event loop in ms, above what is allowed; Infinity when it wasn't sampled
 * since the last look: a thread that was kept from the CPU tells nothing about this service, and
 * the next sample has the delay if there is one
 * @throws ServiceError overloaded
 */
export function refuseIfSlow(delay: number | undefined): void {
  if (delay === Number.POSITIVE_INFINITY) return;
  throw new ServiceError("overloaded", "The service answers too slowly to take more.");
}

/** Public routes have no limit, heavy ones their own, the others share one of the client's. */
function rateOf(options: ApiOptions, op: Operation): RateLimit | null {
  if (op.scope === null) return false;
  if (op.heavy !== true) return null;
  const max = Math.max(1, Math.floor(options.rateLimitPerMinute / HEAVY_SHARE));
  return { max, timeWindow: RATE_WINDOW_MS };
}

// Owns: what every route file is given. HTTP thread.
import type { Clock } from "../base/clock.js";
import type { Bindings } from "./bindings.js";
import type { Lifecycle } from "./lifecycle.js";
import type { Metrics } from "./metrics.js";
import type { ApiOptions } from "./options.js";
import type { Services } from "./services.js";

export interface ApiDeps {
  readonly options: ApiOptions;
  readonly services: Services;
  readonly clock: Clock;
  readonly lifecycle: Lifecycle;
  readonly metrics: Metrics;
  readonly bindings: Bindings;
  /** The OpenAPI document as JSON text. */
  readonly document: () => string;
}

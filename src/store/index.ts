// Owns: store's front door. HTTP thread.

export { StoreError, type StoreErrorCode } from "./errors.js";
export type { ImageFiles } from "./image-files.js";
export type * from "./records.js";
export { EMPTY_SHAPE } from "./records.js";
export { openStore, type Store } from "./store.js";

export type * from './store-driver/conformance-store.js';
export * from './store-driver-conformance.js';
export type { ConformanceKeys } from './key-provider/steps.js';
export * from './key-provider-conformance.js';
export * from './fixed-secret-source.js';
export * from './secrets-testing.module.js';
export * from './simulated-clock.js';
export * from './simulation/index.js';
export { fuzzStore, type FuzzFailure, type FuzzOptions, type FuzzReport } from './store-fuzz/fuzz-store.js';

export * from './world.js';
export type { Invariant, Violation } from './invariants.js';
export type { Assumptions } from './scenario.js';
export { MUTATIONS, type Mutation } from './mutations.js';
export * from './simulate.js';

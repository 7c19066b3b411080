export * from './store-driver-conformance.js';

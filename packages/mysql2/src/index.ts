export * from './pool/index.js';
export * from './rotators/index.js';

export * from './alibaba-kms-keys.js';

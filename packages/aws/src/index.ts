export * from './aws-kms-keys.js';

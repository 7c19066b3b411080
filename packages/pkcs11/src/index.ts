export * from './pkcs11-keys.js';

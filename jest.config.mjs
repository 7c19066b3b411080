/** Jest 30 on native ESM: run through `npm test`, which passes --experimental-vm-modules. */
export default {
  testEnvironment: 'node',
  roots: ['<rootDir>/packages', '<rootDir>/sample-app', '<rootDir>/test', '<rootDir>/bench', '<rootDir>/docs'],
  testMatch: ['**/test/**/*.spec.ts', '<rootDir>/test/**/*.spec.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/', '<rootDir>/test/smoke/'],
  modulePathIgnorePatterns: ['/dist/', '<rootDir>/test/smoke/'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: {
    '^@nestjs-secrets/([a-z0-9-]+)$': '<rootDir>/packages/$1/src/index.ts',
    '^nestjs-secrets-test/(.*)$': '<rootDir>/test/src/$1.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        swcrc: false,
        jsc: {
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          target: 'es2022',
          keepClassNames: true,
        },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  testTimeout: 60_000,
  // Each may run a PostgreSQL of its own; and a worker that keeps a handle open is ended, where a single process would hang.
  maxWorkers: 2,
};

/**
 * Who may import whom, as DESIGN.md draws it. Type-only imports count as much as any other: a layer that names a type of another one
 * depends on it. test/packaging-layers.spec.ts breaks every rule below on purpose, to prove that it is noticed.
 */

/** The layers of core, from the top down: each may import itself and those after it. */
const coreLayers = [
  'module',
  'client',
  'manager',
  'doors',
  'backup',
  'lifecycle',
  'keys',
  'rotation',
  'fleet',
  'versions',
  'integrity',
  'encryption',
  'access',
  'audit',
  'store',
  'foundation',
];

/** The packages, each with those it may import. */
const packages = {
  core: [],
  pg: ['core'],
  mysql2: ['core'],
  typeorm: ['core', 'pg', 'mysql2'],
  redis: ['core'],
  etcd: ['core'],
  aws: ['core'],
  alibaba: ['core'],
  pkcs11: ['core'],
  backup: ['core'],
  testing: ['core'],
};

/** Where cryptography is done: these folders, and these files, which hash or draw something. The inventory of docs/threat-model.md. */
const cryptography = [
  '^packages/core/src/(encryption|integrity|audit|backup|foundation)/',
  '^packages/core/src/access/policy-records\\.ts$',
  '^packages/core/src/store/copy-pass\\.ts$',
  '^packages/core/src/versions/rotation-policy\\.ts$',
  '^packages/backup/src/(backup-file|passphrase-stanza)\\.ts$',
  '^packages/mysql2/src/rotators/(native-password|rehearsal)\\.ts$',
  '^packages/pg/src/rotators/(lease|passing-role|scram-verifier)\\.ts$',
  '^packages/redis/src/scripts\\.ts$',
  '^packages/typeorm/src/postgres-channels\\.ts$',
];

const anyOf = (names) => `(${names.join('|')})`;

const layerRules = coreLayers.map((layer, index) => ({
  name: `core-${layer}-imports-downwards`,
  severity: 'error',
  comment: `core/${layer} imports only itself and the layers below it`,
  from: { path: `^packages/core/src/${layer}/` },
  to: { path: '^packages/core/src/', pathNot: `^packages/core/src/${anyOf(coreLayers.slice(index))}/` },
}));

const packageRules = Object.entries(packages).map(([name, allowed]) => ({
  name: `${name}-imports-its-packages`,
  severity: 'error',
  comment: `The package ${name} imports, of this repository, ${['its own sources', ...allowed].join(' and ')}`,
  from: { path: `^packages/${name}/src/` },
  to: { path: '^(packages|sample-app|test|bench|docs)/', pathNot: `^packages/${anyOf([name, ...allowed])}/src/` },
}));

export default {
  forbidden: [
    {
      name: 'no-circles',
      severity: 'error',
      comment: 'Design circles away, those of types too',
      from: {},
      to: { circular: true },
    },
    ...layerRules,
    {
      name: 'core-has-known-layers',
      severity: 'error',
      comment: 'A new folder in core needs its place in the order of layers',
      from: {},
      to: { path: '^packages/core/src/[^/]+/', pathNot: `^packages/core/src/${anyOf(coreLayers)}/` },
    },
    ...packageRules,
    {
      name: 'packages-are-entered-by-their-index',
      severity: 'error',
      comment: 'What the index of a package does not export is its own affair',
      from: { path: '^(packages/[^/]+|sample-app|test|bench|docs)/', pathNot: '^packages/[^/]+/test/' },
      to: { path: '^packages/[^/]+/', pathNot: ['^$1/', '^packages/[^/]+/src/index\\.ts$'] },
    },
    {
      name: 'programs-are-not-imported',
      severity: 'error',
      comment: 'The sample application and the benchmarks stand at the top',
      from: { path: '^([^/]+)/' },
      to: { path: '^(sample-app|bench)/', pathNot: '^$1/' },
    },
    {
      name: 'sample-app-imports-published-packages-only',
      severity: 'error',
      comment: 'Teams copy it: it may use nothing that they cannot install',
      from: { path: '^sample-app/src/' },
      to: { path: '^(test|bench|docs|packages/testing)/' },
    },
    {
      name: 'pools-know-no-framework',
      severity: 'error',
      comment: 'The same pool serves Kysely, Drizzle, MikroORM, Prisma and the plain driver',
      from: { path: '^packages/((pg|mysql2)/src/pool|core/src/client/pool)/' },
      to: { path: '(^|node_modules/)(@nestjs/|typeorm(/|$))' },
    },
    {
      name: 'cryptography-has-its-places',
      severity: 'error',
      comment:
        'Whoever reviews it must find all of it: add the file to the list above, and to docs/threat-model.md what it does',
      from: { path: '^packages/[^/]+/src/', pathNot: cryptography },
      to: { path: '^(node:)?crypto$' },
    },
    {
      name: 'no-development-dependencies',
      severity: 'error',
      comment: 'Whoever installs the package does not get them',
      from: { path: '^packages/[^/]+/src/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm-peer', 'npm'] },
    },
    {
      name: 'no-undeclared-dependencies',
      severity: 'error',
      comment: 'Found today by accident of hoisting: name it in the package.json of the workspace',
      from: { path: '^(packages/[^/]+|sample-app)/src/' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    { name: 'nothing-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // The smoke projects are compiled and run elsewhere, against the packed packages.
    exclude: { path: '(^|/)dist/|^test/smoke/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types'],
    },
  },
};

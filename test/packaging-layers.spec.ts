import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { temporaryFolder } from 'nestjs-secrets-test/packed-project';

const root = fileURLToPath(new URL('..', import.meta.url));
const configFile = path.join(root, '.dependency-cruiser.mjs');
const cruiser = path.join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');

interface Violation {
  readonly rule: { readonly name: string };
  readonly from: string;
}

/** A small repository in the shape of this one, in which nothing is wrong. */
const soundFiles: Readonly<Record<string, string>> = {
  'tsconfig.json': JSON.stringify({
    compilerOptions: { module: 'nodenext', paths: { '@nestjs-secrets/*': ['./packages/*/src/index.ts'] } },
  }),
  'packages/core/package.json': JSON.stringify({ name: '@nestjs-secrets/core', peerDependencies: { rxjs: '*' } }),
  'packages/pg/package.json': JSON.stringify({
    name: '@nestjs-secrets/pg',
    peerDependencies: { pg: '*', typeorm: '*' },
    devDependencies: { kysely: '*' },
  }),
  'packages/mysql2/package.json': JSON.stringify({
    name: '@nestjs-secrets/mysql2',
    peerDependencies: { mysql2: '*', typeorm: '*' },
  }),
  'packages/typeorm/package.json': JSON.stringify({ name: '@nestjs-secrets/typeorm' }),
  'packages/redis/package.json': JSON.stringify({ name: '@nestjs-secrets/redis' }),
  'packages/etcd/package.json': JSON.stringify({ name: '@nestjs-secrets/etcd' }),
  'packages/aws/package.json': JSON.stringify({ name: '@nestjs-secrets/aws' }),
  'packages/alibaba/package.json': JSON.stringify({ name: '@nestjs-secrets/alibaba' }),
  'packages/pkcs11/package.json': JSON.stringify({ name: '@nestjs-secrets/pkcs11' }),
  'packages/backup/package.json': JSON.stringify({ name: '@nestjs-secrets/backup' }),
  'packages/testing/package.json': JSON.stringify({ name: '@nestjs-secrets/testing' }),
  'sample-app/package.json': JSON.stringify({ name: 'my-app' }),
  ...Object.fromEntries(
    ['kysely', 'mysql2', 'pg', 'rxjs', 'typeorm', 'undeclared'].flatMap((name) => [
      [`node_modules/${name}/package.json`, JSON.stringify({ name, main: 'index.js' })],
      [`node_modules/${name}/index.js`, ''],
    ]),
  ),
  'packages/core/src/index.ts': imports('./module/secrets.js', './client/secret.js'),
  'packages/core/src/module/secrets.ts': imports('../client/secret.js', '../foundation/clock.js'),
  'packages/core/src/client/secret.ts': imports('../foundation/clock.js', 'rxjs'),
  'packages/core/src/foundation/clock.ts': imports('node:crypto', 'node:timers'),
  'packages/pg/src/index.ts': imports('./pool/pool.js', './rotators/role.js'),
  'packages/pg/src/pool/pool.ts': imports('@nestjs-secrets/core', 'pg'),
  'packages/pg/src/rotators/role.ts': imports('@nestjs-secrets/core'),
  'packages/mysql2/src/index.ts': imports('./pool/pool.js'),
  'packages/mysql2/src/pool/pool.ts': imports('@nestjs-secrets/core', 'mysql2'),
  'packages/typeorm/src/index.ts': imports('@nestjs-secrets/core', '@nestjs-secrets/mysql2', '@nestjs-secrets/pg'),
  'packages/redis/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/etcd/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/aws/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/alibaba/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/pkcs11/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/backup/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/testing/src/index.ts': imports('@nestjs-secrets/core'),
  'packages/core/test/secret.spec.ts': imports('../src/client/secret.js', '@nestjs-secrets/testing'),
  'sample-app/src/main.ts': imports('@nestjs-secrets/core', '@nestjs-secrets/typeorm'),
  'test/src/server.ts': imports('@nestjs-secrets/pg'),
  'bench/src/main.ts': imports('@nestjs-secrets/pg'),
};

/** One way to break each rule: the file that does it, and with which import. */
const violations: readonly (readonly [rule: string, file: string, imported: string])[] = [
  ['no-circles', 'packages/core/src/foundation/clock.ts', './ticker.js'],
  ...coreLayerViolations(),
  ['core-has-known-layers', 'packages/core/src/index.ts', './helpers/strings.js'],
  ['core-imports-its-packages', 'packages/core/src/foundation/clock.ts', '@nestjs-secrets/testing'],
  ['pg-imports-its-packages', 'packages/pg/src/index.ts', '@nestjs-secrets/typeorm'],
  ['mysql2-imports-its-packages', 'packages/mysql2/src/index.ts', '@nestjs-secrets/pg'],
  ['typeorm-imports-its-packages', 'packages/typeorm/src/index.ts', '../../../test/src/server.js'],
  ['redis-imports-its-packages', 'packages/redis/src/index.ts', '@nestjs-secrets/etcd'],
  ['etcd-imports-its-packages', 'packages/etcd/src/index.ts', '@nestjs-secrets/redis'],
  ['aws-imports-its-packages', 'packages/aws/src/index.ts', '@nestjs-secrets/alibaba'],
  ['alibaba-imports-its-packages', 'packages/alibaba/src/index.ts', '@nestjs-secrets/aws'],
  ['pkcs11-imports-its-packages', 'packages/pkcs11/src/index.ts', '@nestjs-secrets/testing'],
  ['backup-imports-its-packages', 'packages/backup/src/index.ts', '@nestjs-secrets/testing'],
  ['testing-imports-its-packages', 'packages/testing/src/index.ts', '@nestjs-secrets/pg'],
  ['packages-are-entered-by-their-index', 'packages/pg/src/rotators/role.ts', '../../../core/src/client/secret.js'],
  ['programs-are-not-imported', 'test/src/server.ts', '../../bench/src/main.js'],
  ['sample-app-imports-published-packages-only', 'sample-app/src/main.ts', '@nestjs-secrets/testing'],
  ['pools-know-no-framework', 'packages/pg/src/pool/pool.ts', 'typeorm'],
  ['pools-know-no-framework', 'packages/mysql2/src/pool/pool.ts', 'typeorm'],
  ['cryptography-has-its-places', 'packages/pg/src/pool/pool.ts', 'node:crypto'],
  ['no-development-dependencies', 'packages/pg/src/rotators/role.ts', 'kysely'],
  ['no-undeclared-dependencies', 'packages/pg/src/rotators/role.ts', 'undeclared'],
  ['nothing-unresolvable', 'packages/pg/src/rotators/role.ts', './gone.js'],
];

/** Files that exist for a violation to import. */
const targets: Readonly<Record<string, string>> = {
  'packages/core/src/foundation/ticker.ts': imports('./clock.js'),
  'packages/core/src/helpers/strings.ts': imports(),
};

function coreLayerViolations(): [string, string, string][] {
  const layers = [
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
  return layers.map((layer, index) => [
    `core-${layer}-imports-downwards`,
    `packages/core/src/${layer}/low.ts`,
    // From the top layer, the only way up is the index.
    index === 0 ? '../index.js' : `../${layers[index - 1]}/high.js`,
  ]);
}

function imports(...specifiers: string[]): string {
  // Imports of types only: they must count as any other.
  return [
    ...specifiers.map((specifier) => `import type {} from '${specifier}';`),
    'export type Nothing = never;\n',
  ].join('\n');
}

let fixture: Awaited<ReturnType<typeof temporaryFolder>>;

beforeEach(async () => {
  fixture = await temporaryFolder();
  await write(soundFiles);
});

afterEach(() => fixture.remove());

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [file, content] of Object.entries(files)) {
    const target = path.join(fixture.folder, file);
    await mkdir(path.dirname(target), { recursive: true });
    await writeFile(target, content);
  }
}

async function cruise(): Promise<Violation[]> {
  const args = [cruiser, '--config', configFile, '--output-type', 'json', 'packages', 'sample-app', 'test', 'bench'];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, args, { cwd: fixture.folder, timeout: 60_000 }, (error, stdout, stderr) => {
      if (stdout.startsWith('{')) resolve(stdout);
      else reject(new Error(`dependency-cruiser did not report:\n${stderr}`, { cause: error }));
    });
  });
  return (JSON.parse(output) as { summary: { violations: Violation[] } }).summary.violations;
}

describe('the rules on who may import whom', () => {
  it('find nothing in a sound repository', async () => {
    expect(await cruise()).toEqual([]);
  });

  it('each find the import that breaks them', async () => {
    const extra = new Map<string, string>(Object.entries(targets));
    for (const [, file, imported] of violations) {
      const content = extra.get(file) ?? soundFiles[file] ?? imports();
      extra.set(file, `import type {} from '${imported}';\n${content}`);
      const target = path.join(path.dirname(file), imported.replace(/\.js$/, '.ts'));
      if (imported.endsWith('/high.js')) extra.set(target, extra.get(target) ?? imports());
    }
    await write(Object.fromEntries(extra));
    const found = (await cruise()).map(({ rule, from }) => `${rule.name}: ${from}`);
    for (const [rule, file] of violations) expect(found).toContain(`${rule}: ${file}`);
  });

  it('all have a violation above', async () => {
    const { default: config } = (await import(configFile)) as {
      default: { forbidden: { name: string; severity: string }[] };
    };
    expect(config.forbidden.filter(({ severity }) => severity !== 'error')).toEqual([]);
    const broken = new Set(violations.map(([rule]) => rule));
    expect([...broken].sort()).toEqual(config.forbidden.map(({ name }) => name).sort());
  });
});

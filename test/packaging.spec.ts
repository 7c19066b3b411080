import { cp, readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  type PackedProject,
  type PackedProjectOptions,
  RegistryUnreachableError,
  installPacked,
  packPackages,
  temporaryFolder,
} from 'nestjs-secrets-test/packed-project';
import { publint } from 'publint';

const root = fileURLToPath(new URL('..', import.meta.url));
const packages = ['core', 'pg', 'mysql2', 'typeorm', 'redis', 'etcd', 'aws', 'alibaba', 'pkcs11', 'backup', 'testing'];
const vectors = path.join(root, 'test/vectors/envelope-v1.json');
const inRoot = (bin: string): string => path.join(root, 'node_modules', bin);

const nest12: PackedProjectOptions = {
  type: 'module',
  template: path.join(root, 'test/smoke'),
  dependencies: {
    '@alicloud/openapi-client': '^0.4.15',
    '@aws-sdk/client-kms': '^3.1164.0',
    '@nestjs/common': '^12.5.1',
    '@nestjs/core': '^12.5.1',
    '@nestjs/schedule': '^12.0.2',
    '@redis/client': '^6.3.1',
    '@types/node': '^20.19.0',
    mysql2: '^3.24.6',
    pg: '^8.23.1',
    pkcs11js: '^2.1.7',
    'reflect-metadata': '^0.2.2',
    rxjs: '^7.8.2',
    typeorm: '^1.1.1',
  },
};
const nest11: PackedProjectOptions = {
  ...nest12,
  type: 'commonjs',
  dependencies: {
    ...nest12.dependencies,
    '@nestjs/common': '^11.0.0',
    '@nestjs/core': '^11.0.0',
    '@nestjs/schedule': '^6.0.0',
    typeorm: '^0.3.20',
  },
};

const tarballs = new Map<string, string>();
const projects = new Map<string, PackedProject>();
const workspace = await temporaryFolder();
const unreachable = await prepare();

const mayNotSkip = process.env['CI'] === 'true' || process.env['REQUIRE_SERVERS'] === '1';
if (unreachable !== undefined && mayNotSkip) throw unreachable;
if (unreachable !== undefined)
  process.stderr.write(`SKIPPED the smoke tests of the packed packages: ${unreachable.message}\n`);
const describeInstalled = unreachable === undefined ? describe : describe.skip;

async function prepare(): Promise<RegistryUnreachableError | undefined> {
  const files = await packPackages(
    packages.map((name) => path.join(root, 'packages', name)),
    workspace.folder,
  );
  packages.forEach((name, index) => tarballs.set(name, files[index] ?? ''));
  const install = async (name: string, options: PackedProjectOptions): Promise<void> => {
    const project = await installPacked(path.join(workspace.folder, name), files, options);
    // No install script runs there, and this is what pkcs11js makes in its own.
    const built = 'node_modules/pkcs11js/build/Release/pkcs11.node';
    await cp(path.join(root, built), path.join(project.folder, built));
    projects.set(name, project);
  };
  try {
    await Promise.all([install('nest12', nest12), install('nest11', nest11)]);
  } catch (error) {
    if (error instanceof RegistryUnreachableError) return error;
    throw error;
  }
  return undefined;
}

function project(name: string): PackedProject {
  const found = projects.get(name);
  if (found === undefined) throw new Error(`${name} is not installed`);
  return found;
}

async function expectSuccess(running: ReturnType<PackedProject['node']>, output = ''): Promise<void> {
  const result = await running;
  expect(result).toMatchObject({ code: 0, output: expect.stringContaining(output) });
}

afterAll(() => workspace.remove());

describe.each(packages)('the tarball of %s', (name) => {
  it('passes publint', async () => {
    const tarball = await readFile(tarballs.get(name) ?? '');
    const { messages } = await publint({ pack: { tarball: new Uint8Array(tarball).buffer }, strict: true });
    expect(messages).toEqual([]);
  });
});

describeInstalled.each([
  ['nest12', 'ES modules'],
  ['nest11', 'CommonJS'],
])('%s: an application of %s with the packed packages', (name) => {
  let compilerErrors: string[];

  beforeAll(async () => {
    const { output } = await project(name).node(inRoot('typescript/bin/tsc'), '-p', '.');
    compilerErrors = output.split('\n').filter((line) => line.includes('error TS'));
  });

  it('compiles, our declarations included', () => {
    // Those of others have faults of their own, which do not count here.
    expect(compilerErrors.filter((line) => !/^node_modules\/(?!@nestjs-secrets\/)/.test(line))).toEqual([]);
  });

  it.each(packages)('has both builds, the declarations, README and LICENSE of %s', async (packageName) => {
    const folder = path.join(project(name).folder, 'node_modules/@nestjs-secrets', packageName);
    const files = await readdir(folder, { recursive: true });
    const published = ['README.md', 'LICENSE', 'package.json'];
    for (const build of ['esm', 'cjs'])
      published.push(...['package.json', 'index.js', 'index.d.ts'].map((file) => `dist/${build}/${file}`));
    expect(files).toEqual(expect.arrayContaining(published));
    expect(files.filter((file) => /^(src|test|node_modules)(\/|$)|tsbuildinfo|tsconfig|\.spec\./.test(file))).toEqual(
      [],
    );
    expect(await readFile(path.join(folder, 'LICENSE'), 'utf8')).toBe(
      await readFile(path.join(root, 'LICENSE'), 'utf8'),
    );
  });

  it('runs on plain Node and opens the golden vectors', async () => {
    const { vectors: all } = JSON.parse(await readFile(vectors, 'utf8')) as { vectors: unknown[] };
    expect(all.length).toBeGreaterThan(0);
    await expectSuccess(
      project(name).node('out/main.js', vectors),
      `smoke passed, ${all.length} golden vectors opened`,
    );
  });

  it('lets both builds of core live in one process', async () => {
    await expectSuccess(project(name).node('both-builds.mjs'), 'both builds understand each other');
  });
});

describeInstalled('nest11: an application of CommonJS', () => {
  it('runs under Jest in CommonJS mode', async () => {
    const config = JSON.stringify({
      testEnvironment: 'node',
      transform: {},
      testMatch: ['**/jest-application.spec.js'],
    });
    await expectSuccess(project('nest11').node(inRoot('jest/bin/jest.js'), '--rootDir', '.', '--config', config));
  });
});

// Builds the workspaces that have a tsconfig.json: packages twice (ESM and CommonJS, each folder with a package.json that says which), the
// private programs once. `node scripts/build.mjs [folder…]` builds those folders and what they depend on; without folders, everything.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inRoot = (...parts) => path.join(root, ...parts);
const tsc = inRoot('node_modules/typescript/bin/tsc');
const readManifest = (folder) => JSON.parse(readFileSync(inRoot(folder, 'package.json'), 'utf8'));

/** Name → folder of every workspace there is something to compile in. */
const folderOf = new Map(
  readManifest('.')
    .workspaces.flatMap((pattern) => {
      if (!pattern.endsWith('/*')) return [pattern];
      const parent = pattern.slice(0, -2);
      return readdirSync(inRoot(parent)).map((name) => `${parent}/${name}`);
    })
    .filter((folder) => existsSync(inRoot(folder, 'tsconfig.json')))
    .map((folder) => [readManifest(folder).name, folder]),
);

const isPackage = (folder) => existsSync(inRoot(folder, 'tsconfig.cjs.json'));
const outputsOf = (folder) =>
  isPackage(folder)
    ? [
        { config: 'tsconfig.json', output: inRoot(folder, 'dist/esm'), type: 'module' },
        { config: 'tsconfig.cjs.json', output: inRoot(folder, 'dist/cjs'), type: 'commonjs' },
      ]
    : [{ config: 'tsconfig.json', output: inRoot(folder, 'dist') }];

const stampOf = (output) => path.join(output, '.tsbuildinfo');

const dependenciesOf = (folder) => {
  const { dependencies, peerDependencies } = readManifest(folder);
  return Object.keys({ ...dependencies, ...peerDependencies }).flatMap((name) => folderOf.get(name) ?? []);
};

const treeOf = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).map((entry) => path.join(entry.parentPath, entry.name));

/** Outputs whose source is gone would be published, and found by imports, for ever. */
const removeStale = (source, output) => {
  for (const file of treeOf(output)) {
    const stem = /^(.+?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(path.relative(output, file))?.[1];
    if (stem !== undefined && !existsSync(path.join(source, `${stem}.ts`))) rmSync(file);
  }
};

/** Everything the outputs of a folder are made from. Folders count too: their times tell of a source that was removed. */
const inputsOf = (folder, config) => [
  tsc,
  inRoot('tsconfig.base.json'),
  inRoot('node_modules/.package-lock.json'),
  inRoot(folder, 'package.json'),
  inRoot(folder, 'tsconfig.json'),
  inRoot(folder, config),
  inRoot(folder, 'src'),
  ...treeOf(inRoot(folder, 'src')),
  ...dependenciesOf(folder).flatMap((dependency) => outputsOf(dependency).map(({ output }) => stampOf(output))),
];

let freeSlots = availableParallelism();
const waiting = [];

const runTsc = async (args) => {
  if (freeSlots === 0) await new Promise((resolve) => waiting.push(resolve));
  else freeSlots -= 1;
  try {
    return await new Promise((resolve, reject) => {
      spawn(process.execPath, [tsc, ...args], { cwd: root, stdio: 'inherit' })
        .on('error', reject)
        .on('exit', resolve);
    });
  } finally {
    const next = waiting.shift();
    if (next === undefined) freeSlots += 1;
    else next();
  }
};

const compile = async (folder, { config, output, type }) => {
  mkdirSync(output, { recursive: true });
  if (type !== undefined) writeFileSync(path.join(output, 'package.json'), `${JSON.stringify({ type })}\n`);
  removeStale(inRoot(folder, 'src'), output);
  const stamp = stampOf(output);
  const newestInput = Math.max(...inputsOf(folder, config).map((file) => statSync(file).mtimeMs));
  if (existsSync(stamp) && statSync(stamp).mtimeMs > newestInput) return;
  const startedAt = new Date();
  const code = await runTsc(['-p', inRoot(folder, config), '--incremental', '--tsBuildInfoFile', stamp]);
  // tsc stamps what it emitted with errors as well: the next build must not take that for a success.
  if (existsSync(stamp)) utimesSync(stamp, startedAt, code === 0 ? startedAt : new Date(0));
  if (code !== 0) throw new Error(`${folder}: tsc -p ${config} ended with ${code}`);
};

const builds = new Map();

const build = (folder) => {
  if (!builds.has(folder)) {
    builds.set(
      folder,
      Promise.all(dependenciesOf(folder).map(build)).then(() =>
        Promise.all(outputsOf(folder).map((output) => compile(folder, output))),
      ),
    );
  }
  return builds.get(folder);
};

const asked = process.argv.slice(2).map((folder) => path.relative(root, path.resolve(folder)));
const folders = asked.length > 0 ? asked : [...folderOf.values()];
const results = await Promise.allSettled(folders.map(build));
const failures = new Set(results.flatMap(({ reason }) => (reason === undefined ? [] : [reason.message])));
for (const failure of failures) console.error(`build: ${failure}`);
if (failures.size > 0) process.exitCode = 1;

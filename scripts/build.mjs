// Compiles every package twice (ESM and CommonJS, each folder with a package.json that says which) and the private programs once.
// A stage waits for the one before it, because each package reads the declarations of those below.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const tsc = path.join(root, 'node_modules/typescript/bin/tsc');

const stages = [['packages/core'], ['packages/pg', 'packages/testing'], ['packages/typeorm'], ['sample-app', 'test'], ['bench']];

const compile = (folder, config, output) =>
  new Promise((resolve, reject) => {
    const args = [tsc, '-p', path.join(root, folder, config), '--incremental'];
    args.push('--tsBuildInfoFile', path.join(root, folder, output, '.tsbuildinfo'));
    spawn(process.execPath, args, { stdio: 'inherit' }).on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${folder}: tsc ended with ${code}`));
    });
  });

const markAs = (folder, type) => {
  mkdirSync(path.join(root, folder), { recursive: true });
  writeFileSync(path.join(root, folder, 'package.json'), `${JSON.stringify({ type })}\n`);
};

const build = async (folder) => {
  if (!existsSync(path.join(root, folder, 'tsconfig.cjs.json'))) {
    await compile(folder, 'tsconfig.json', 'dist');
    return;
  }
  markAs(`${folder}/dist/esm`, 'module');
  markAs(`${folder}/dist/cjs`, 'commonjs');
  await Promise.all([compile(folder, 'tsconfig.json', 'dist/esm'), compile(folder, 'tsconfig.cjs.json', 'dist/cjs')]);
};

try {
  for (const stage of stages) await Promise.all(stage.map(build));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

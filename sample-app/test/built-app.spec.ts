import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { environmentIn, removeFolder, temporaryFolder } from './my-app.js';

// Built by `npm run build`, which `npm test` runs first.
const dist = path.resolve('sample-app/dist');

let folder: string;
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(async () => {
  if (child !== undefined && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  child = undefined;
  await removeFolder(folder);
});

function run(
  script: string,
  args: string[],
  environment: NodeJS.ProcessEnv,
): { output: () => string; process: ChildProcess } {
  let output = '';
  const started = spawn(process.execPath, [path.join(dist, script), ...args], {
    env: { PATH: process.env['PATH'], NO_COLOR: '1', ...environment },
  });
  child = started;
  for (const stream of [started.stdout, started.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  return { output: () => output, process: started };
}

/** MyApp's own `main.js`; resolves with its address. */
async function startMain(environment: NodeJS.ProcessEnv): Promise<{ url: string; process: ChildProcess }> {
  const { output, process } = run('main.js', [], environment);
  const url = await new Promise<string>((resolve, reject) => {
    process.stdout?.on('data', () => {
      const [, port] = /listening on \S*:(\d+)/.exec(output()) ?? [];
      if (port !== undefined) resolve(`http://localhost:${port}`);
    });
    process.once('exit', () => reject(new Error(output())));
  });
  return { url, process };
}

async function order(url: string): Promise<number> {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ customer: 'Ann', totalCents: 5 });
  return (await fetch(`${url}/orders`, { method: 'POST', headers, body })).status;
}

describe('MyApp as it is run', () => {
  it('loses nothing when it is killed while rotating, and stops gracefully on SIGTERM', async () => {
    const environment = environmentIn(folder, { PORT: '0', ROTATE_EVERY: '500ms', ROLES: '3' });
    const first = await startMain(environment);
    expect(await order(first.url)).toBe(201);
    first.process.kill('SIGKILL');
    await once(first.process, 'exit');

    const second = await startMain(environment);
    expect(await order(second.url)).toBe(201);
    const orders: unknown = await (await fetch(`${second.url}/orders`)).json();
    expect(orders).toHaveLength(2);
    expect((await fetch(`${second.url}/health/ready`)).status).toBe(200);
    second.process.kill('SIGTERM');
    await once(second.process, 'exit');
    await expect(readFile(path.join(folder, 'data/postgres/cluster/postmaster.pid'))).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });
});

describe('the demo', () => {
  it('ends well, and says in JSON how the three runs went', async () => {
    const file = path.join(folder, 'demo.json');
    const { output, process } = run('demo/demo.js', ['--seconds', '3', '--clients', '8', '--json', file], {});
    const [code] = await once(process, 'exit');
    const text = output();
    expect({ code, text }).toMatchObject({ code: 0 });
    const report = JSON.parse(await readFile(file, 'utf8'));
    const figures = [
      'failed',
      'maxMs',
      'maxServerConnections',
      'p50Ms',
      'p99Ms',
      'requests',
      'rotations',
      'throughputPerSecond',
    ];
    expect(Object.keys(report)).toEqual(['baseline', 'live', 'naive', 'retired']);
    for (const name of ['baseline', 'live', 'naive']) expect(Object.keys(report[name]).sort()).toEqual(figures);
    expect(report.live).toMatchObject({ failed: 0 });
    expect(report.live.requests).toBeGreaterThan(0);
    expect(report.live.rotations).toBeGreaterThan(0);
    expect(report.live.maxServerConnections).toBeLessThanOrEqual(12);
    expect(report.baseline).toMatchObject({ failed: 0, rotations: 0 });
    expect(report.naive.rotations).toBeGreaterThan(0);
    const { attempted, refused, sessionsLeft } = report.retired;
    expect(attempted).toBeGreaterThan(0);
    expect({ refused, sessionsLeft }).toEqual({ refused: attempted, sessionsLeft: 0 });
    expect(text).toContain('destroy+initialize');
  }, 120_000);

  it.each([
    [['--seconds', '0'], '--seconds'],
    [['--rotate-every', '10ms'], '--rotate-every'],
    [['--rotate-every', 'soon'], '--rotate-every'],
    [['--clients', 'many'], '--clients'],
    [['--strategy', 'luck'], '--strategy'],
    [['--colour'], '--colour'],
  ])('says which option does not fit: %j', async (args, named) => {
    const { output, process } = run('demo/demo.js', args, {});
    const [code] = await once(process, 'exit');
    expect(code).toBe(1);
    expect(output()).toContain(named);
  });
});

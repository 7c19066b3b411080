import { expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { fuzzStore } from '@nestjs-secrets/testing';

const run = promisify(execFile);

it('20,000 mutations of stored bytes: no wrong value, no crash, no other secret wedged', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-fuzz-'));
  const file = path.join(folder, 'report.json');
  try {
    // In a process of its own it is several times as fast as under Jest.
    const args = ['scripts/fuzz-store.mjs', '--mutations', '20000', '--json', file];
    await run(process.execPath, args, { maxBuffer: 10_000_000 }).catch((error: { stdout: string }) => error);
    const { noticed, ...report }: { noticed: number } = JSON.parse(await readFile(file, 'utf8'));
    expect(report).toEqual({ mutations: 20_000, wrongValues: 0, crashes: 0, wedged: 0, failures: [] });
    // The others hit what nobody looked at: an older version, a node that a running process has read already.
    expect(noticed).toBeGreaterThan(5_000);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 300_000);

it('finds a great deal wrong with a store that has no integrity', async () => {
  const { wrongValues, failures } = await fuzzStore({ mutations: 2_000, seed: 7, withoutIntegrity: true });
  expect(wrongValues).toBeGreaterThan(5);
  expect(failures.length).toBeGreaterThan(5);
});

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Present in a process whose syncs are drawn out already. */
const MARK = 'SLOW_SYNC_US';

/** How long each sync of this process takes at least, in microseconds; undefined for as long as it takes. */
export function syncFloorUs(): number | undefined {
  const stated = process.env[MARK];
  return stated === undefined ? undefined : Number(stated);
}

/**
 * Runs this very program again in a process in which `fsync` and `fdatasync` take so many microseconds at least, and ends with its exit code. Some disks, those of virtual machines above
 * all, say in 50 µs that something is durable; most take five times as long and more, and what a ratio to a raw commit says depends on it. Linux only, and needs a C compiler.
 */
export function runWithSlowSync(microseconds: number): never {
  const folder = mkdtempSync(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const library = path.join(folder, 'slow-sync.so');
  const source = fileURLToPath(new URL('../native/slow-sync.c', import.meta.url));
  let exitCode: number;
  try {
    execFileSync('cc', ['-shared', '-fPIC', '-O2', '-o', library, source, '-ldl'], { stdio: 'inherit' });
    const env = { ...process.env, LD_PRELOAD: library, [MARK]: String(microseconds) };
    exitCode =
      spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { stdio: 'inherit', env }).status ??
      1;
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.exit(exitCode);
}

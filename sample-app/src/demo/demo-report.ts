import os from 'node:os';
import type { DemoOptions } from './demo-options.js';
import type { DemoRun, RunName, RunReport } from './demo-run.js';
import type { RetirementProof } from './messages.js';

export type DemoRuns = Readonly<Record<RunName, DemoRun>>;

/** What `--json` writes. */
export interface DemoReport extends Readonly<Record<RunName, RunReport>> {
  /** Of the run with this module. */
  readonly retired: RetirementProof;
}

export function demoReport({ baseline, live, naive }: DemoRuns): DemoReport {
  return { baseline: baseline.report, live: live.report, naive: naive.report, retired: live.proof };
}

/** What the run with this module broke of its promises, as sentences; none when it kept them. */
export function brokenPromises({ report, proof, lostPayments }: DemoRun): string[] {
  const alive = proof.attempted - proof.refused;
  return [
    ...(report.failed > 0 ? [`${report.failed} requests failed with this module.`] : []),
    ...(lostPayments > 0 ? [`${lostPayments} acknowledged payments are not in the database.`] : []),
    ...(alive > 0 ? [`${alive} old credentials were not refused.`] : []),
    ...(proof.sessionsLeft > 0 ? [`${proof.sessionsLeft} sessions of old credentials are left.`] : []),
  ];
}

const columns: readonly { readonly name: RunName; readonly title: string }[] = [
  { name: 'baseline', title: 'no rotation' },
  { name: 'live', title: 'this module' },
  { name: 'naive', title: 'destroy+initialize' },
];

const rows: readonly { readonly title: string; readonly of: (run: DemoRun) => number | string }[] = [
  { title: 'requests', of: ({ report }) => report.requests },
  { title: 'failed', of: ({ report }) => report.failed },
  { title: 'rotations', of: ({ report }) => report.rotations },
  { title: 'requests/s', of: ({ report }) => report.throughputPerSecond },
  { title: 'p50 ms', of: ({ report }) => report.p50Ms },
  { title: 'p99 ms', of: ({ report }) => report.p99Ms },
  { title: 'longest ms', of: ({ report }) => report.maxMs },
  { title: 'short reads p50 ms', of: ({ shortReads }) => shortReads.p50Ms },
  { title: 'short reads p99 ms', of: ({ shortReads }) => shortReads.p99Ms },
  { title: '2 s transactions done', of: ({ longTransactions: { begun, done } }) => `${done} of ${begun}` },
  { title: 'server connections, at most', of: ({ report }) => report.maxServerConnections },
  { title: 'acknowledged payments lost', of: ({ lostPayments }) => lostPayments },
];

export function printedReport(runs: DemoRuns, { seconds, rotateEvery, clients, strategy }: DemoOptions): string {
  const { proof } = runs.live;
  const table = [
    ['', ...columns.map(({ title }) => title)],
    ...rows.map(({ title, of }) => [title, ...columns.map(({ name }) => of(runs[name]).toLocaleString('en'))]),
  ];
  return [
    ...table.map(([title = '', ...cells]) => title.padEnd(28) + cells.map((cell) => cell.padStart(20)).join('')),
    '',
    `Old credentials of the run with this module: ${proof.attempted} tried by a real log-in, ${proof.refused} refused, ${proof.sessionsLeft} sessions left.`,
    ...naiveFailures(runs.naive),
    `${strategy}, a rotation each ${rotateEvery}, ${clients} clients with 20 ms to think, a pool of 10, ${seconds} s a run.`,
    machine(),
  ].join('\n');
}

function naiveFailures({ failures }: DemoRun): string[] {
  const most = [...failures].toSorted(([, one], [, other]) => other - one).slice(0, 3);
  if (most.length === 0) return [];
  return [`Failures of destroy+initialize: ${most.map(([message, count]) => `${count}× ${message}`).join(', ')}.`];
}

function machine(): string {
  const cpus = os.cpus();
  const memory = Math.round(os.totalmem() / 2 ** 30);
  return `Node ${process.versions.node}, PostgreSQL 18 (embedded), ${cpus.length} × ${cpus[0]?.model.trim() ?? 'unknown CPU'}, ${memory} GB, ${os.type()} ${os.release()}.`;
}

import { it } from '@jest/globals';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { postgresAlternatingUsers, postgresSingleUser } from '../src/rotators/index.js';
import { HandRotation, version, type Version } from './rotators-fixture.js';
it('measures', async () => {
  const server = await startPostgres({ settings: {} });
  const { host, port, database } = server;
  await server.query("CREATE ROLE su LOGIN PASSWORD 'su-password'");
  const rows: string[] = [];
  for (const [label, rotator, first] of [
    [
      'alternating',
      postgresAlternatingUsers({ connection: { host, port, database }, admin: server.admin, baseName: 'm', roles: 2 }),
      undefined,
    ],
    ['single self', postgresSingleUser({ connection: { host, port, database } }), version({ username: 'su', password: 'su-password' })],
  ] as const) {
    let current: Version | undefined = first;
    const times: Record<string, number[]> = {};
    const timed = async (what: string, run: () => Promise<unknown>) => {
      const t = performance.now();
      const c = process.cpuUsage();
      await run();
      (times[what] ??= []).push(performance.now() - t);
      const d = process.cpuUsage(c);
      (times[what + ' cpu'] ??= []).push((d.user + d.system) / 1000);
    };
    for (let i = 0; i < 150; i += 1) {
      const rotation: HandRotation = new HandRotation(rotator, current);
      await rotation.create();
      const t = performance.now();
      await timed('apply', () => rotation.apply());
      await timed('verify', () => rotation.verify());
      if (current) await timed('retire', () => rotation.retire());
      (times['cycle'] ??= []).push(performance.now() - t);
      current = rotation.pending;
    }
    for (const [what, list] of Object.entries(times)) {
      const s = list.slice(10).sort((a, b) => a - b);
      rows.push(
        `${label} ${what}: min ${s[0]?.toFixed(1)} p10 ${s[Math.floor(s.length*0.1)]?.toFixed(1)} median ${s[s.length >> 1]?.toFixed(1)} p95 ${s[Math.floor(s.length * 0.95)]?.toFixed(1)}`,
      );
    }
  }
  const explain = [1];
  
  process.stdout.write(rows.join('\n') + '\n' + explain.length + '\n');
  await server.stop();
});

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import * as http from 'node:http';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from './postgres-server.js';
import { program, programPath } from './programs.js';
import { ServerProcess } from './server-process.js';

/** A throw-away etcd on 127.0.0.1, a cluster of one member, with password authentication. */
export interface EtcdServer {
  readonly host: string;
  readonly port: number;
  /** Its client URL. */
  readonly endpoint: string;
  /** The certificate of the server, in PEM, where it has one. */
  readonly ca: string | undefined;
  /** The root user of etcd; nobody does anything without logging in. */
  readonly admin: { readonly username: string; readonly password: string };
  /** The process id of the server. */
  readonly pid: number;
  /** Posts to the gateway as root, to a path such as `/v3/kv/range`. */
  post(path: string, body: object): Promise<Record<string, unknown>>;
  log(): string;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, on the data it had and the same port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface EtcdServerOptions {
  /** Flags for its command line, such as `{ 'max-txn-ops': '16' }`. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Has the server make itself a certificate, and clients use https; false by default. */
  readonly tls?: boolean;
}

/** Where the server comes from on Debian. */
export const ETCD_DEBIAN_PACKAGE = 'etcd-server';

/** True when `startEtcd` finds what it needs on this machine. */
export function hasEtcd(): boolean {
  return programPath('etcd') !== undefined;
}

/** @throws Error naming the Debian package when etcd is not installed; the server's log when it does not start. */
export async function startEtcd({ flags = {}, tls = false }: EtcdServerOptions = {}): Promise<EtcdServer> {
  const server = program('etcd', ETCD_DEBIAN_PACKAGE);
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-etcd-'));
  const admin = { username: 'root', password: 'root-password-of-a-test' };
  const host = '127.0.0.1';
  const [port, peerPort] = [await freePort(), await freePort()];
  const endpoint = `${tls ? 'https' : 'http'}://${host}:${port}`;
  const peer = `http://${host}:${peerPort}`;
  const all: Readonly<Record<string, string>> = {
    name: 'test',
    'data-dir': path.join(folder, 'data'),
    'listen-client-urls': endpoint,
    'advertise-client-urls': endpoint,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `test=${peer}`,
    // Of the two it knows the one that is always there; the other is deprecated.
    logger: 'zap',
    // Log-ins at the price that passwords deserve would take most of the time of a test.
    'bcrypt-cost': '4',
    ...(tls ? { 'auto-tls': 'true' } : {}),
    ...flags,
  };
  const running = new ServerProcess({
    program: server,
    arguments: Object.entries(all).map(([name, value]) => `--${name}=${value}`),
    // Debian builds it for processors that etcd itself does not vouch for.
    environment: { ETCD_UNSUPPORTED_ARCH: process.arch },
    readyLine: 'serving client traffic',
  });
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  let ca: string | undefined;
  const send = (path: string, body: object, token?: string): Promise<Record<string, unknown>> =>
    post(endpoint + path, ca, body, token);
  try {
    await running.start();
    if (tls) ca = await readFile(path.join(folder, 'data/fixtures/client/cert.pem'), 'utf8');
    await send('/v3/auth/user/add', { name: admin.username, password: admin.password });
    await send('/v3/auth/role/add', { name: 'root' });
    await send('/v3/auth/user/grant', { user: admin.username, role: 'root' });
    await send('/v3/auth/enable', {});
  } catch (error) {
    await running.end('SIGKILL');
    await remove();
    throw error;
  }
  return {
    host,
    port,
    endpoint,
    ca,
    admin,
    get pid() {
      return running.pid;
    },
    async post(path, body) {
      const { token } = await send('/v3/auth/authenticate', { name: admin.username, password: admin.password });
      return send(path, body, String(token));
    },
    log: () => running.log,
    kill: () => running.end('SIGKILL'),
    restart: () => running.start(),
    async stop() {
      await running.end('SIGTERM');
      await remove();
    },
  };
}

async function post(
  url: string,
  ca: string | undefined,
  body: object,
  token: string | undefined,
): Promise<Record<string, unknown>> {
  const headers = token === undefined ? {} : { authorization: token };
  const request =
    ca === undefined
      ? http.request(url, { method: 'POST', headers, agent: false })
      : https.request(url, { method: 'POST', headers, agent: false, ca });
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('error', reject).once('response', resolve);
    request.end(JSON.stringify(body));
  });
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
  if (response.statusCode !== 200) throw new Error(`etcd answers ${url} with ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}

import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AuditEventInput,
  auditFiles,
  auditFolder,
  AuditLog,
  type AuditLogOptions,
  type AuditVerification,
  checkpointFile,
  checkpointSigner,
  type SealedRecord,
  verifyAudit,
  type AuditSink,
} from '@nestjs-secrets/core';

export const ORIGIN = 'orders.example.com/audit/instance-1';
export const KEY = Buffer.alloc(32, 7);
export const SIGNER = checkpointSigner(generateKeyPairSync('ed25519').privateKey, ORIGIN);

/** A folder with a log in it, beside another for checkpoints that are out of reach. */
export class AuditWorld {
  readonly warnings: string[] = [];
  readonly #logs: AuditLog[] = [];

  private constructor(readonly home: string) {}

  static async create(): Promise<AuditWorld> {
    return new AuditWorld(await mkdtemp(join(tmpdir(), 'nestjs-secrets-audit-')));
  }

  get folder(): string {
    return join(this.home, 'audit');
  }

  get beside(): string {
    return join(this.home, 'audit', 'checkpoints');
  }

  get elsewhere(): string {
    return join(this.home, 'elsewhere', 'checkpoints');
  }

  /** An open log over files, with checkpoints in two places. */
  async open(options: Partial<AuditLogOptions> & { readonly maxFileBytes?: number } = {}): Promise<AuditLog> {
    const { maxFileBytes, ...rest } = options;
    const log = new AuditLog({
      origin: ORIGIN,
      key: KEY,
      sinks: [{ sink: auditFiles({ folder: this.folder, ...(maxFileBytes && { maxFileBytes }) }), mode: 'required' }],
      checkpoints: { signer: SIGNER, places: this.places(), everyEvents: 10 },
      onWarning: (message) => this.warnings.push(message),
      ...rest,
    });
    this.#logs.push(log);
    await log.open();
    return log;
  }

  places() {
    return [checkpointFile({ path: this.beside }), checkpointFile({ path: this.elsewhere })];
  }

  verify(options: Partial<Parameters<typeof verifyAudit>[0]> = {}): Promise<AuditVerification> {
    return verifyAudit({
      origin: ORIGIN,
      log: auditFolder(this.folder),
      keys: [KEY],
      checkpoints: { verifierKeys: [SIGNER.verifierKey], places: this.places() },
      ...options,
    });
  }

  async files(): Promise<string[]> {
    return (await readdir(this.folder)).filter((name) => name.startsWith('audit-')).sort();
  }

  /** Every record, parsed. */
  async records(): Promise<{ seq: number; event: Record<string, unknown> & { eventName: string; eventId: string } }[]> {
    const texts = await Promise.all((await this.files()).map((name) => readFile(join(this.folder, name), 'utf8')));
    return texts
      .flatMap((text) => text.split('\n'))
      .filter((line) => line.startsWith('{"seq"'))
      .map((line) => JSON.parse(line));
  }

  async remove(): Promise<void> {
    for (const log of this.#logs) await log.close();
    await rm(this.home, { recursive: true, force: true });
  }
}

export function read(secret: string, more: Partial<AuditEventInput> = {}): AuditEventInput {
  return {
    eventName: 'GetSecretValue',
    eventRW: 'Read',
    userIdentity: { type: 'application', principalId: 'app/orders', instanceId: 'instance-1' },
    resourceName: secret,
    resourceType: 'Secret',
    requestParameters: { stage: 'current' },
    ...more,
  };
}

/** A sink in memory that can be told to fail, and to hold back its answers. */
export class MoodySink implements AuditSink {
  readonly name = 'the moody sink';
  readonly records: SealedRecord[] = [];
  mood: 'well' | 'failing' | 'hanging' | 'late' = 'well';
  calls = 0;
  /** Answers what came in while it was late. */
  answer = (): void => undefined;
  #heard: { count: number; resolve: () => void }[] = [];

  async open() {
    return undefined;
  }

  async append(records: readonly SealedRecord[]): Promise<void> {
    this.calls += 1;
    this.#heard = this.#heard.filter(({ count, resolve }) => (this.calls >= count ? resolve() : true));
    if (this.mood === 'failing') throw Object.assign(new Error('canary-in-a-sink'), { code: 'EMOODY' });
    if (this.mood === 'hanging') return new Promise(() => undefined);
    if (this.mood === 'late') await new Promise<void>((resolve) => (this.answer = resolve));
    const last = this.records.at(-1)?.sequence ?? 0;
    this.records.push(...records.filter(({ sequence }) => sequence > last));
  }

  /** Resolves at the next call. */
  nextCall(): Promise<void> {
    return new Promise((resolve) => {
      this.#heard.push({ count: this.calls + 1, resolve });
    });
  }

  async close(): Promise<void> {
    this.answer();
  }
}

/** The error a piece of work fails with. */
export async function failureOf(work: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it did not fail');
}

import { mkdtemp, rm, chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { AppModule } from '../src/app.module.js';
import { configuration, parseConfiguration } from '../src/configuration.js';

/** A folder that the account of an embedded server can enter. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'my-app-test-'));
  await chmod(folder, 0o755);
  return folder;
}

export function removeFolder(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true });
}

/** The variables of an environment whose files are all in one folder. */
export function environmentIn(folder: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    DATA_DIR: path.join(folder, 'data'),
    KEY_FILE: path.join(folder, 'keys', 'my-app.json'),
    ROTATE_EVERY: 'never',
    ...more,
  };
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export interface MyApp {
  readonly app: INestApplication;
  get(url: string): Promise<Answer>;
  post(url: string, body?: unknown): Promise<Answer>;
}

/** MyApp as it is, in this process, on a port of its own. */
export async function startMyApp(environment: NodeJS.ProcessEnv): Promise<MyApp> {
  const module = await Test.createTestingModule({ imports: [AppModule] })
    .overrideProvider(configuration.KEY)
    .useValue(parseConfiguration(environment))
    .compile();
  const app = module.createNestApplication({ logger: false });
  await app.listen(0, '127.0.0.1');
  const baseUrl = await app.getUrl();
  const send = async (url: string, init: RequestInit): Promise<Answer> => {
    const response = await fetch(`${baseUrl}${url}`, init);
    return { status: response.status, body: await response.json() };
  };
  return {
    app,
    get: (url) => send(url, {}),
    post: (url, body) =>
      send(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
  };
}

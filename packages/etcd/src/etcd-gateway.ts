import * as http from 'node:http';
import * as https from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import { Deadline, systemClock } from '@nestjs-secrets/core';
import type { ErrorResponse } from './gateway-messages.js';

/** How to reach an etcd cluster. */
export interface EtcdConnection {
  /** The client URLs of its members, such as `https://etcd-1.internal:2379`; the first that answers is used, for as long as it does. */
  readonly endpoints: string | readonly string[];
  /** A user of etcd; without one, calls carry no token. */
  readonly username?: string;
  readonly password?: string;
  /** For `https`: whom to trust (`ca`; the certificates Node.js brings by default), and the client's own certificate where members ask for one. */
  readonly tls?: Pick<SecureContextOptions, 'ca' | 'cert' | 'key' | 'passphrase'> & { readonly servername?: string };
}

/** What a member has answered instead of doing what it was asked. It has done nothing of it, as far as it knows. */
export class EtcdRefusal extends Error {
  override readonly name = 'EtcdRefusal';
}

/** An answer that goes on: messages come until either side ends it. */
export interface GatewayStream {
  end(): void;
}

type Connection = Omit<EtcdConnection, 'endpoints'> & { readonly endpoints: readonly URL[] };

/** More connections than this would not make a member faster; the calls of one process share them. */
const MOST_CONNECTIONS = 16;
/** The token is unknown to this member, or was given before the users last changed. */
const STALE_TOKEN = /invalid auth token|revision of auth store is old|auth: token is not provided/;
const LARGEST_REFUSAL = 65_536;

/** Posts JSON to the members of a cluster: to one for as long as it answers, then to the next. */
export class EtcdGateway {
  readonly #agents: readonly [http.Agent, https.Agent];
  #member = 0;
  #token: Promise<string> | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly answerWithinMs: number,
  ) {
    const options = { keepAlive: true, keepAliveMsecs: answerWithinMs, maxSockets: MOST_CONNECTIONS };
    this.#agents = [new http.Agent(options), new https.Agent({ ...options, ...connection.tls })];
  }

  /** @throws EtcdRefusal, or the error of a connection */
  async call<R>(path: string, body: object, deadline = new Deadline(this.answerWithinMs)): Promise<R> {
    const token = this.#tokenFor(deadline);
    try {
      return await this.#ask<R>(path, body, await token, deadline);
    } catch (error) {
      if (token === undefined || !(error instanceof EtcdRefusal) || !STALE_TOKEN.test(error.message)) throw error;
      this.#forget(token);
      return this.#ask<R>(path, body, await this.#tokenFor(deadline), deadline);
    }
  }

  /** Rejects when the stream does not begin; then `ended` is called once, when it is over. */
  async stream(path: string, body: object, take: (line: string) => void, ended: () => void): Promise<GatewayStream> {
    const deadline = new Deadline(this.answerWithinMs);
    const token = this.#tokenFor(deadline);
    const { request, response } = await this.#post(path, body, await token, deadline);
    if (response.statusCode !== 200) {
      const refusal = refusalIn(await read(response, LARGEST_REFUSAL), response.statusCode);
      if (token !== undefined && STALE_TOKEN.test(refusal.message)) this.#forget(token);
      throw refusal;
    }
    // Waiting for messages is no reason for a process to stay.
    request.socket?.unref();
    let begun = '';
    response.setEncoding('utf8').on('data', (text: string) => {
      const lines = (begun + text).split('\n');
      begun = lines.pop() ?? '';
      for (const line of lines) if (line !== '') take(line);
    });
    response.once('error', () => undefined).once('close', ended);
    return { end: () => request.destroy() };
  }

  /** The next call logs in anew. */
  forgetToken(): void {
    this.#token = undefined;
  }

  close(): void {
    for (const agent of this.#agents) agent.destroy();
  }

  async #ask<R>(path: string, body: object, token: string | undefined, deadline: Deadline): Promise<R> {
    const { endpoints } = this.connection;
    for (let tries = 1; ; tries++) {
      const member = this.#member;
      try {
        const { response, done } = await this.#post(path, body, token, deadline);
        const text = await read(response).finally(done);
        if (response.statusCode !== 200) throw refusalIn(text, response.statusCode);
        return parsed(text) as R;
      } catch (error) {
        if (error instanceof EtcdRefusal && !isOfMember(error)) throw error;
        if (member === this.#member) this.#member = (member + 1) % endpoints.length;
        if (!wasNeverSent(error) || tries >= endpoints.length || deadline.isOver) throw error;
      }
    }
  }

  /** Sends the request, and gives the response as soon as it begins. */
  #post(
    path: string,
    body: object,
    token: string | undefined,
    deadline: Deadline,
  ): Promise<{ request: http.ClientRequest; response: http.IncomingMessage; done: () => void }> {
    const { endpoints } = this.connection;
    const url = new URL(path, endpoints[this.#member]);
    const text = JSON.stringify(body);
    const isSecure = url.protocol === 'https:';
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(token === undefined ? {} : { authorization: token }),
    };
    const [plain, secure] = this.#agents;
    const request = isSecure
      ? https.request(url, { method: 'POST', headers, agent: secure })
      : http.request(url, { method: 'POST', headers, agent: plain });
    return new Promise((resolve, reject) => {
      const done = systemClock.after(deadline.leftMs, () => request.destroy(new Error('the answer timed out')));
      request.on('error', (error) => {
        done();
        reject(error);
      });
      request.once('response', (response) => resolve({ request, response, done }));
      request.end(text);
    });
  }

  /** Undefined where nobody logs in. Calls at one time share a log-in. */
  #tokenFor(deadline: Deadline): Promise<string> | undefined {
    const { username: name, password = '' } = this.connection;
    if (name === undefined) return undefined;
    if (this.#token === undefined) {
      const token = this.#ask<{ token: string }>('/v3/auth/authenticate', { name, password }, undefined, deadline).then(
        (answer) => answer.token,
      );
      this.#token = token;
      token.catch(() => this.#forget(token));
    }
    return this.#token;
  }

  #forget(token: Promise<string>): void {
    if (this.#token === token) this.#token = undefined;
  }
}

async function read(response: http.IncomingMessage, limit = Infinity): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes > limit) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** @throws Error without the text, which may hold values */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('what answered does not speak JSON as etcd does');
  }
}

function refusalIn(text: string, status = 0): EtcdRefusal {
  let said: unknown;
  try {
    const { message, error }: ErrorResponse = JSON.parse(text);
    said = message ?? error;
  } catch {
    // Not from etcd itself; its status says enough.
  }
  return new EtcdRefusal(typeof said === 'string' ? said : `HTTP status ${status}`);
}

/** This member cannot serve now, and another may. */
function isOfMember({ message }: EtcdRefusal): boolean {
  return /no leader|leader changed|request timed out|server stopped|not healthy|HTTP status/.test(message);
}

function wasNeverSent(error: unknown): boolean {
  if (typeof error !== 'object' || error === null || !('syscall' in error)) return false;
  return error.syscall === 'connect' || error.syscall === 'getaddrinfo';
}

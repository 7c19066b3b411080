import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** How a server treats the next requests: answers, keeps silent, cuts the connection, or has troubles of its own. */
export type Behaviour = 'answer' | 'hang' | 'cut' | 'throttle' | 'fail';

export interface HttpRequest {
  readonly method: string;
  /** As it was sent, with the query. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

/** An HTTP server on 127.0.0.1 that can be made to misbehave, and counts what it is asked. */
export class FaultyServer {
  behaviour: Behaviour = 'answer';
  /** Requests that came in, answered or not. */
  requests = 0;
  running = 0;
  mostAtOnce = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  constructor(
    private readonly handle: (request: HttpRequest) => HttpAnswer,
    private readonly trouble: (kind: 'throttle' | 'fail') => HttpAnswer,
  ) {
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('The server does not listen.');
    return address.port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    this.running += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.running);
    response.on('close', () => (this.running -= 1));
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // The client has gone.
      return;
    }
    if (this.behaviour === 'hang') return;
    if (this.behaviour === 'cut') {
      request.socket.destroy();
      return;
    }
    const { status, headers, body } =
      this.behaviour === 'answer' ? this.handle(asked(request, Buffer.concat(chunks))) : this.trouble(this.behaviour);
    response.writeHead(status, headers).end(body);
  }
}

function asked({ method = '', url = '', rawHeaders }: IncomingMessage, body: Buffer): HttpRequest {
  const headers: Record<string, string> = {};
  for (let at = 0; at < rawHeaders.length; at += 2)
    headers[(rawHeaders[at] ?? '').toLowerCase()] = rawHeaders[at + 1] ?? '';
  return { method, url, headers, body };
}

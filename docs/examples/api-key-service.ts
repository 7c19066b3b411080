import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A stand-in for any service that is called with a key: keys are managed at `/keys/<id>`, and `/orders` wants one. */
export class ApiKeyService {
  readonly keys = new Map<string, string>();
  readonly #server: Server = createServer((request, response) => {
    this.#answer(request).then(
      (status) => response.writeHead(status).end(),
      () => response.writeHead(500).end(),
    );
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage): Promise<number> {
    const [, path, id] = (request.url ?? '').split('/');
    if (path === 'orders') return [...this.keys.values()].includes(request.headers.authorization ?? '') ? 200 : 401;
    if (path !== 'keys' || id === undefined || request.headers.authorization !== 'admin') return 404;
    if (request.method === 'DELETE') this.keys.delete(id);
    else this.keys.set(id, (await request.setEncoding('utf8').toArray()).join(''));
    return 204;
  }
}

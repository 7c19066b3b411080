import { Agent, request } from 'node:http';

/** A hung request counts as failed after this long. */
const LIMIT_MS = 15_000;

/** Talks JSON to one server over kept connections. */
export class HttpJson {
  private readonly agent = new Agent({ keepAlive: true });

  constructor(private readonly baseUrl: string) {}

  /** @throws Error for any answer that is not 2xx, and for none */
  send<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers =
        payload === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) };
      const outgoing = request(`${this.baseUrl}${path}`, { method, agent: this.agent, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          const { statusCode = 0 } = response;
          if (statusCode < 200 || statusCode > 299)
            reject(new Error(`${method} ${path.replaceAll(/\d+/g, '…')}: ${statusCode}`));
          else resolve(JSON.parse(text) as T);
        });
      });
      outgoing.setTimeout(LIMIT_MS, () => outgoing.destroy(new Error(`no answer within ${LIMIT_MS} ms`)));
      outgoing.on('error', reject);
      outgoing.end(payload);
    });
  }

  close(): void {
    this.agent.destroy();
  }
}

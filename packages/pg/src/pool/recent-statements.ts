import type pg from 'pg';

const MOST_STATEMENTS = 8;
const LONGEST_STATEMENT = 8192;

/**
 * The parametrised statements a pool ran last, to rehearse them on a connection before anybody waits for it: a new backend has empty
 * catalogue caches, which makes the first run of a statement several times slower than the next. Keeps texts only, never a parameter.
 */
export class RecentStatements {
  readonly #parameterCounts = new Map<string, number>();

  /** Notes what is run through a client from now on. */
  observe(client: pg.Client): void {
    const query = client.query.bind(client) as (...input: unknown[]) => unknown;
    Object.defineProperty(client, 'query', {
      configurable: true,
      writable: true,
      value: (...input: unknown[]) => {
        this.#note(input[0], input[1]);
        return query(...input);
      },
    });
  }

  /** Has the server plan the statements on this connection, without running them. */
  async rehearse(client: pg.ClientBase): Promise<void> {
    for (const [text, parameterCount] of this.#parameterCounts) {
      await new Promise<void>((resolve) => client.query(new Rehearsal(text, parameterCount, resolve)));
    }
  }

  #note(statement: unknown, values: unknown): void {
    const config =
      typeof statement === 'object' && statement !== null
        ? (statement as { text?: unknown; values?: unknown })
        : undefined;
    const text = config === undefined ? statement : config.text;
    const parameters = config?.values ?? values;
    if (
      typeof text !== 'string' ||
      text.length > LONGEST_STATEMENT ||
      !Array.isArray(parameters) ||
      parameters.length === 0
    )
      return;
    this.#parameterCounts.delete(text);
    this.#parameterCounts.set(text, parameters.length);
    if (this.#parameterCounts.size <= MOST_STATEMENTS) return;
    const [oldest] = this.#parameterCounts.keys();
    if (oldest !== undefined) this.#parameterCounts.delete(oldest);
  }
}

interface ExtendedProtocol {
  parse(statement: { text: string; name: string; types: number[] }): void;
  bind(portal: { portal: string; statement: string; binary: boolean; values: null[] }): void;
  sync(): void;
}

/**
 * Parse and Bind without Execute (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY): the server plans
 * the statement, and the Sync throws the result away. What fails, such as a NULL where a domain takes none, costs nothing but the warmth.
 */
class Rehearsal implements pg.Submittable {
  readonly #text: string;
  readonly #parameterCount: number;
  /** pg looks for it under this name, to put its query timeout around it. */
  callback: () => void;

  constructor(text: string, parameterCount: number, callback: () => void) {
    this.#text = text;
    this.#parameterCount = parameterCount;
    this.callback = callback;
  }

  submit(connection: object): void {
    const protocol = connection as ExtendedProtocol;
    protocol.parse({ text: this.#text, name: '', types: [] });
    protocol.bind({
      portal: '',
      statement: '',
      binary: false,
      values: Array.from({ length: this.#parameterCount }, () => null),
    });
    protocol.sync();
  }

  handleReadyForQuery(): void {
    this.callback();
  }

  handleError(): void {
    this.callback();
  }
}

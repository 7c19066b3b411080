import { inspect } from 'node:util';

const encoded = (text: string): string[] => [
  text,
  JSON.stringify(text),
  JSON.stringify(JSON.stringify(text)),
  inspect(text),
  encodeURIComponent(text),
  encodeURIComponent(text).replaceAll('%20', '+'),
  encodeURIComponent(text).replaceAll(/%../g, (code) => code.toLowerCase()),
  text.replaceAll("'", "''"),
  ...(['hex', 'base64', 'base64url'] as const).map((encoding) => Buffer.from(text).toString(encoding)),
  Buffer.from(text).toString('hex').toUpperCase(),
  ...['u', 'us', 'use'].map((user) => `Basic ${Buffer.from(`${user}${text}:x`).toString('base64')}`),
];

/** Every string of a value. */
function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(stringsOf) : [];
}

/** An error as careless code throws it: the values, in every encoding, in all that an error has. */
export function carelessError(what: string, values: readonly unknown[]): Error {
  const strings = values.flatMap(stringsOf);
  const shown = strings.flatMap(encoded).join(' ');
  const refused = (where: string): Error =>
    Object.assign(new Error(`${where} does not let in ${shown}`), { connectionString: shown });
  const cause = new AggregateError([refused('the replica')], `all failed: ${shown}`, { cause: refused('the primary') });
  const error = new Error(`${what} failed for ${shown}`, { cause });
  return Object.assign(error, {
    name: `CarelessError ${strings.join(' ')}`,
    code: `E_${strings.join('_')}`,
    query: `ALTER ROLE x PASSWORD '${strings.join(' ')}'`,
    parameters: values,
  });
}

import type { Chapter } from 'nestjs-secrets-test/canary/canary-order';

/** One place that keeps values out of sight, and how to break it. */
export interface Redaction {
  readonly name: string;
  /** Package and path under dist/esm, without the extension. */
  readonly file: string;
  /** What the compiled file has exactly once. */
  readonly from: string;
  readonly to: string;
  /** What an application must live through, beside its start, for the broken place to show. */
  readonly chapters: readonly Chapter[];
  /** What kind of server it must live on; PostgreSQL by default. */
  readonly kind?: 'mariadb';
}

const FORMS = 'core/foundation/secret-forms';

const form = (name: string, from: string, to = ''): Redaction => ({
  name: `the form: ${name}`,
  file: FORMS,
  from,
  to,
  chapters: ['listener'],
});

const ofErrors = (name: string, from: string, to: string): Redaction => ({
  name: `errors: ${name}`,
  file: 'core/foundation/redaction',
  from,
  to,
  chapters: ['creation'],
});

const ofLogs = (name: string, file: string, from: string, to: string): Redaction => ({
  name: `logs: ${name}`,
  file: `core/${file}`,
  from,
  to,
  chapters: ['loggers'],
});

/**
 * Every place but the calls of `redactError`, which are found by themselves, and one that no life gets to: what `JSON.parse` says of a value that was
 * opened and is no JSON (packages/core/test/redaction.spec.ts).
 */
export const REDACTIONS: readonly Redaction[] = [
  form('plain', '        text,\n'),
  form('JSON', '[...written, ...written.map(inJson)]', 'written'),
  form('JSON in JSON', '        inJson(inJson(text)),\n'),
  form('JavaScript', '        inspect(text).slice(1, -1),\n'),
  form('SQL', `        text.replaceAll("'", "''"),\n`),
  form('URL', '        inUrl,\n'),
  form('URL of a form', '        inForm,\n'),
  form('URL in lower case', '        inUrl.replaceAll(/%[0-9A-F]{2}/g, (escaped) => escaped.toLowerCase()),\n'),
  form('hex', '        hex,\n'),
  form('HEX', '        hex.toUpperCase(),\n'),
  form('base64', "['base64', 'base64url'].flatMap", "['base64url'].flatMap"),
  form('base64url', "['base64', 'base64url'].flatMap", "['base64'].flatMap"),
  form('base64 after one byte', '[0, 1, 2].map', '[0, 2].map'),
  form('base64 after two bytes', '[0, 1, 2].map', '[0, 1].map'),

  ofErrors('message', 'new Error(redact(messageOf(error)))', 'new Error(messageOf(error))'),
  ofErrors('name', "typeof name === 'string' ? redact(name)", "typeof name === 'string' ? name"),
  ofErrors('stack', "redact(typeof stack === 'string' ? stack : ", "(typeof stack === 'string' ? stack : "),
  ofErrors('code', '{ code: redact(code) }', '{ code }'),
  ofErrors('cause', "hide(clone, 'cause', inner(cause))", "hide(clone, 'cause', cause)"),
  ofErrors('errors of an aggregate', '.map(inner))', ')'),
  ofErrors(
    'other properties',
    "const code = property(error, 'code');",
    "const code = property(error, 'code'); Object.assign(clone, { parameters: property(error, 'parameters') });",
  ),

  {
    name: 'a version hides its value',
    file: 'core/versions/secret-version',
    from: '#value',
    to: 'bare',
    chapters: ['listener'],
  },
  { name: 'a handle hides what it holds', file: 'core/client/secret-handle', from: '#held', to: 'held', chapters: [] },
  {
    name: 'what a schema says of a value is not passed on',
    file: 'core/versions/secret-definition',
    from: '(issue.path ?? [])',
    to: '[issue.message, ...(issue.path ?? [])]',
    chapters: ['manager'],
  },
  {
    name: 'what JSON says of a value is not passed on',
    file: 'core/versions/secret-value',
    from: 'catch {\n        json = undefined;',
    to: 'catch (error) { throw error;',
    chapters: ['manager'],
  },
  {
    name: 'a connection forgets its password',
    file: 'pg/pool/live-client',
    from: 'forgetPassword(this);',
    to: '',
    chapters: [],
  },
  {
    name: 'what the parser of URLs says is not passed on',
    file: 'pg/pool/live-pool-config',
    from: 'catch {',
    to: 'catch (error) { throw error;',
    chapters: ['queries'],
  },
  {
    name: 'a connection to MariaDB forgets its password',
    file: 'mysql2/pool/live-connection',
    from: 'delete this.config.password;',
    to: '',
    chapters: [],
    kind: 'mariadb',
  },
  {
    name: 'what Node says of a URL is not passed on',
    file: 'mysql2/pool/live-mysql-pool-config',
    from: 'if (options.uri === undefined)',
    to: 'if (error !== undefined)',
    chapters: ['queries'],
    kind: 'mariadb',
  },
  {
    name: 'MariaDB is sent a hash in place of the password',
    file: 'mysql2/rotators/native-password',
    from: 'const inner =',
    to: 'if (password !== undefined) return password; const inner =',
    chapters: [],
    kind: 'mariadb',
  },
  {
    name: 'PostgreSQL is sent a verifier in place of the password',
    file: 'pg/rotators/scram-verifier',
    from: 'const iterations =',
    to: 'if (password !== undefined) return password; const iterations =',
    chapters: [],
  },
  {
    name: 'the audit log takes no member that is named like a value',
    file: 'core/audit/canonical-event',
    from: 'NAMES_OF_VALUES.has(key.toLowerCase())',
    to: 'false',
    chapters: ['audit'],
  },
  {
    name: 'the audit log does not quote errors of others',
    file: 'core/audit/audit-event',
    from: "errorMessage: 'An error that is not one of nestjs-secrets; see the logs.'",
    to: 'errorMessage: error.message',
    chapters: ['audit'],
  },

  ofLogs('texts', 'foundation/log-censor', 'spans.length === 0 ? text : blotOut(text, spans)', 'text'),
  ofLogs('things', 'foundation/log-censor', 'showsAny(thing, text) ? censoredCopy(thing, text) : thing', 'thing'),
  ofLogs('what became current', 'client/live-values', 'this.#hold([version])', ''),
  ofLogs('what is tried out', 'client/live-values', 'this.#hold(versions)', ''),
  ofLogs(
    'what a step of a rotation is given',
    'rotation/censored-rotator',
    "censor.hold(['current', 'pending', 'retiring'].map((stage) => valueAt(context, stage)))",
    '() => undefined',
  ),
  ofLogs('passwords a step draws', 'rotation/censored-rotator', 'releases.push(censor.hold(password))', ''),
  ofLogs('messages of Nest', 'module/censored-logger', 'censor.thing(message), ', 'message, '),
  ofLogs('further arguments of Nest', 'module/censored-logger', '...clean(more)', '...more'),
  ofLogs('lines of pino', 'module/pino-censor', 'censor.text(line)', 'line'),
];

/** Calls of `redactError` whose error nobody gets to see, with the reason. They are there for callers to come. */
export const UNSEEN: Readonly<Record<string, string>> = {
  'core/rotation/leases: redactError(error, [retiring.value])':
    'both callers of a revocation drop its error: it is tried again by whoever looks next',
  'aws/aws-errors: redactError(error, [value])':
    'no life uses AWS; keyProviderConformance looks for data keys in errors',
};

/** What shows the error of a call of `redactError` that is broken, by its file. */
export function exerciseOf(file: string): Pick<Redaction, 'chapters' | 'kind'> {
  if (file === 'core/module/secrets-explorer') return { chapters: ['listener'] };
  // Errors of mysql2 carry the statement.
  if (file === 'core/store/store-calls') return { chapters: ['store'], kind: 'mariadb' };
  if (file === 'core/rotation/leases') return { chapters: ['lease'] };
  if (file === 'core/rotation/rollback') return { chapters: ['rollback'] };
  return { chapters: ['creation', 'rotation'] };
}

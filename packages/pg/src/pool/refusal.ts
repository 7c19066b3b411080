// invalid_password and invalid_authorization_specification, https://www.postgresql.org/docs/current/errcodes-appendix.html
const REFUSALS = new Set(['28P01', '28000']);

/** Whether the server refused the log-in itself, as opposed to being away or out of connections. */
export function isRefusal(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && 'code' in error && REFUSALS.has(String(error.code));
}

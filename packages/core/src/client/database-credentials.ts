/** What a database log-in takes. Where the database is belongs to the connection's own configuration. */
export interface DatabaseCredentials {
  readonly username: string;
  readonly password: string;
}

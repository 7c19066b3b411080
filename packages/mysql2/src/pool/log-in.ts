import type { ConnectionRegister, CredentialChoice, DatabaseCredentials, SecretVersion } from '@nestjs-secrets/core';
import type { LiveConnection } from './live-connection.js';
import type { Refusal } from './server-refusals.js';
import { refusedLogIn } from './server-refusals.js';

/** Opens connections with the version that is the best choice at that moment, and has the choice learn from how the server takes it. */
export class LogIn {
  readonly #choice: CredentialChoice;
  readonly #register: ConnectionRegister<LiveConnection>;
  readonly #refused: (versionId: string, refusal: Refusal) => void;

  constructor(
    choice: CredentialChoice,
    register: ConnectionRegister<LiveConnection>,
    refused: (versionId: string, refusal: Refusal) => void,
  ) {
    this.#choice = choice;
    this.#register = register;
    this.#refused = refused;
  }

  /** Begins to open what `connect` makes. The callback, always in a later turn, gets no connection when there was none to make. */
  begin(
    connect: (version: SecretVersion<DatabaseCredentials>) => LiveConnection,
    callback: (error: Error | undefined, connection: LiveConnection | undefined) => void,
  ): void {
    let connection: LiveConnection;
    try {
      connection = connect(this.#choice.draw());
    } catch (error) {
      process.nextTick(callback, error instanceof Error ? error : new Error(String(error)), undefined);
      return;
    }
    const { versionId } = connection;
    this.#register.add(connection, versionId, this.#choice.currentVersionId);
    connection.open((error) => {
      if (error) this.#learnFrom(error, versionId);
      else {
        this.#choice.accept(versionId);
        this.#register.mark(connection, 'busy');
      }
      callback(error, connection);
    });
  }

  #learnFrom(error: Error, versionId: string): void {
    const refusal = refusedLogIn(error);
    if (refusal === undefined) return;
    this.#choice.blame(versionId, error);
    this.#refused(versionId, refusal);
  }
}

import { KeyRefusedError, KeyUnavailableError } from '@nestjs-secrets/core';
import pkcs11 from 'pkcs11js';
import { hasCode, isPinRefusal, isPkcs11Error, unavailable } from './pkcs11-errors.js';
import { Pkcs11Library } from './pkcs11-library.js';

export interface Pkcs11TokenOptions {
  /** The library of the token's maker, such as `/usr/lib/softhsm/libsofthsm2.so`. */
  readonly library: string;
  /** The label of the token. */
  readonly token: string;
  /** The user PIN, or where to get it, asked at each log-in. */
  readonly pin: string | (() => string | Promise<string>);
}

/** A session that is logged in, with which one caller works at a time. */
export interface TokenSession {
  readonly module: pkcs11.PKCS11;
  readonly handle: pkcs11.Handle;
  /** Grows with each connection: object handles of another one are void. */
  readonly connection: number;
}

interface Connection {
  readonly number: number;
  readonly restarts: number;
  readonly slot: pkcs11.Handle;
  /** Keeps the log-in: the token logs out when the last session closes. */
  readonly anchor: pkcs11.Handle;
  readonly free: pkcs11.Handle[];
}

/** The way to one token: connects when it is first used, and again after whatever has ended the connection. */
export class Pkcs11Token {
  #library: Pkcs11Library | undefined;
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  #connections = 0;
  /** A PIN that was refused is not tried again: the token would lock. */
  #refusal: KeyRefusedError | undefined;

  constructor(
    private readonly provider: string,
    private readonly options: Pkcs11TokenOptions,
  ) {}

  /** Loads the library. What is needed besides is done when it is needed. */
  open(): void {
    this.close();
    this.#library = Pkcs11Library.acquire(this.options.library, this.provider);
    this.#refusal = undefined;
  }

  /** May be called twice. Sessions in use are closed by those who use them. */
  close(): void {
    this.disconnect();
    this.#library?.release();
    this.#library = undefined;
  }

  /** Gives up the connection, so that the next use makes a new one. */
  disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    const library = this.#library;
    if (connection === undefined || library === undefined || connection.restarts !== library.restarts) return;
    for (const session of [...connection.free, connection.anchor]) closeQuietly(library.module, session);
  }

  /**
   * Runs `work` with a session of its own. What PKCS#11 answers goes to the caller as it is; the session is not used again then.
   * @throws KeyUnavailableError when the token is not there, KeyRefusedError when it does not take the PIN
   */
  async use<T>(work: (session: TokenSession) => Promise<T>): Promise<T> {
    const library = this.#library;
    if (library === undefined) throw new KeyUnavailableError(this.provider, 'is not open.');
    const connection = await this.#connected(library);
    return library.run(async () => {
      const { module } = library;
      const handle = connection.free.pop() ?? this.#openSession(library, connection);
      let isSound = false;
      try {
        const result = await work({ module, handle, connection: connection.number });
        isSound = true;
        return result;
      } finally {
        if (isSound && connection === this.#connection) connection.free.push(handle);
        else if (connection.restarts === library.restarts) closeQuietly(module, handle);
      }
    });
  }

  async #connected(library: Pkcs11Library): Promise<Connection> {
    if (this.#refusal !== undefined) throw this.#refusal;
    if (this.#connection !== undefined && this.#connection.restarts === library.restarts) return this.#connection;
    this.#connecting ??= this.#connect(library).finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #connect(library: Pkcs11Library): Promise<Connection> {
    const { pin } = this.options;
    const secret = typeof pin === 'string' ? pin : await pin();
    let slot = this.#findSlot(library);
    if (slot === undefined) {
      library.restart();
      slot = this.#findSlot(library);
    }
    if (slot === undefined) {
      throw new KeyUnavailableError(
        this.provider,
        `does not find the token ${this.options.token} through ${this.options.library}. Plug it in, or correct the label; pkcs11-tool --module … --list-token-slots shows what there is.`,
      );
    }
    const anchor = this.#logIn(library.module, slot, secret);
    this.#connections += 1;
    this.#connection = { number: this.#connections, restarts: library.restarts, slot, anchor, free: [] };
    return this.#connection;
  }

  #logIn(module: pkcs11.PKCS11, slot: pkcs11.Handle, pin: string): pkcs11.Handle {
    let session: pkcs11.Handle | undefined;
    try {
      session = module.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
      module.C_Login(session, pkcs11.CKU_USER, pin);
      return session;
    } catch (error) {
      if (session !== undefined && hasCode(error, pkcs11.CKR_USER_ALREADY_LOGGED_IN)) return session;
      if (session !== undefined) closeQuietly(module, session);
      if (!isPinRefusal(error) || !isPkcs11Error(error)) throw unavailable(this.provider, error);
      this.#refusal = new KeyRefusedError(
        this.provider,
        `does not take the PIN for the token ${this.options.token} (${error.message}), and was not asked again, so that the token does not lock. Correct the PIN and start again.`,
      );
      throw this.#refusal;
    }
  }

  #findSlot({ module }: Pkcs11Library): pkcs11.Handle | undefined {
    try {
      return module.C_GetSlotList(true).find((slot) => labelOf(module, slot) === this.options.token);
    } catch (error) {
      if (isPkcs11Error(error)) return undefined;
      throw error;
    }
  }

  #openSession({ module }: Pkcs11Library, { slot }: Connection): pkcs11.Handle {
    try {
      return module.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
    } catch (error) {
      this.disconnect();
      throw unavailable(this.provider, error);
    }
  }
}

function labelOf(module: pkcs11.PKCS11, slot: pkcs11.Handle): string | undefined {
  try {
    const { label, flags } = module.C_GetTokenInfo(slot);
    return (flags & pkcs11.CKF_TOKEN_INITIALIZED) === 0 ? undefined : label.replaceAll('\0', '').trimEnd();
  } catch (error) {
    // A slot whose token has gone meanwhile.
    if (isPkcs11Error(error)) return undefined;
    throw error;
  }
}

function closeQuietly(module: pkcs11.PKCS11, session: pkcs11.Handle): void {
  try {
    module.C_CloseSession(session);
  } catch (error) {
    // A session that has ended already is what is wanted.
    if (!isPkcs11Error(error)) throw error;
  }
}

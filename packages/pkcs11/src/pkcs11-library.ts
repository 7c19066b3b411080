import { KeyProviderError, KeyUnavailableError } from '@nestjs-secrets/core';
import pkcs11 from 'pkcs11js';
import { isPkcs11Error } from './pkcs11-errors.js';

/** What all providers of a process share of a library, since a library has one state for the whole process. */
interface SharedLibrary {
  readonly module: pkcs11.PKCS11;
  /** Whether it was initialised by somebody else in the process, who will also finalise it. */
  readonly isForeign: boolean;
  users: number;
  /** Calls under way in threads; the library must not be finalised under them. */
  running: number;
  /** How often it was initialised anew: sessions and handles of before are void. */
  restarts: number;
}

/** Registered, since both builds of this package may be loaded at once. */
const LIBRARIES = Symbol.for('@nestjs-secrets/pkcs11-libraries');

/** A PKCS#11 library, initialised for as long as somebody uses it. */
export class Pkcs11Library {
  #isReleased = false;

  private constructor(
    private readonly path: string,
    private readonly provider: string,
    private readonly shared: SharedLibrary,
  ) {}

  /** @throws KeyProviderError `KEY_PROVIDER_INVALID` when there is no such library; KeyUnavailableError when it does not start */
  static acquire(path: string, provider: string): Pkcs11Library {
    const libraries = registry();
    let shared = libraries.get(path);
    if (shared === undefined) {
      shared = { ...load(path, provider), users: 0, running: 0, restarts: 0 };
      libraries.set(path, shared);
    }
    shared.users += 1;
    return new Pkcs11Library(path, provider, shared);
  }

  get module(): pkcs11.PKCS11 {
    return this.shared.module;
  }

  get restarts(): number {
    return this.shared.restarts;
  }

  /** Runs calls that take a thread. */
  async run<T>(calls: () => Promise<T>): Promise<T> {
    this.shared.running += 1;
    try {
      return await calls();
    } finally {
      this.shared.running -= 1;
      this.#finaliseIfUnused();
    }
  }

  /**
   * Initialises the library anew, since some see a token that was plugged in again only then. Ends every session of every provider that uses it, which
   * connect again by themselves. Does nothing while calls are under way, or when the library belongs to somebody else.
   */
  restart(): void {
    const { module, isForeign, running } = this.shared;
    if (isForeign || running > 0) return;
    this.shared.restarts += 1;
    try {
      module.C_Finalize();
    } catch (error) {
      if (!isPkcs11Error(error)) throw error;
      // Not initialised is what it should be now.
    }
    initialise(module, this.provider);
  }

  /** May be called twice. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.shared.users -= 1;
    this.#finaliseIfUnused();
  }

  #finaliseIfUnused(): void {
    const { users, running, isForeign, module } = this.shared;
    if (users > 0 || running > 0 || registry().get(this.path) !== this.shared) return;
    registry().delete(this.path);
    if (isForeign) return;
    try {
      module.C_Finalize();
    } catch (error) {
      if (!isPkcs11Error(error)) throw error;
    }
  }
}

function load(path: string, provider: string): { module: pkcs11.PKCS11; isForeign: boolean } {
  const module = new pkcs11.PKCS11();
  try {
    module.load(path);
  } catch {
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      provider,
      `cannot load the library ${path}: check the path, and that it is made for this machine.`,
    );
  }
  return { module, isForeign: initialise(module, provider) };
}

/** Whether somebody else was first. */
function initialise(module: pkcs11.PKCS11, provider: string): boolean {
  try {
    module.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
    return false;
  } catch (error) {
    if (isPkcs11Error(error) && error.code === pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) return true;
    throw new KeyUnavailableError(provider, `has a library that does not start (${codeName(error)}). See its log.`);
  }
}

function codeName(error: unknown): string {
  return isPkcs11Error(error) ? error.message : 'unknown';
}

function registry(): Map<string, SharedLibrary> {
  const found: unknown = Reflect.get(globalThis, LIBRARIES);
  if (found instanceof Map) return found as Map<string, SharedLibrary>;
  const made = new Map<string, SharedLibrary>();
  Reflect.set(globalThis, LIBRARIES, made);
  return made;
}

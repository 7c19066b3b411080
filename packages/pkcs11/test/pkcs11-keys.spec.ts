import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { type CmkRef, isSecretsError, type KeyProvider, type SecretsError } from '@nestjs-secrets/core';
import { pkcs11Keys, type Pkcs11KeysOptions } from '@nestjs-secrets/pkcs11';
import { keyProviderConformance } from '@nestjs-secrets/testing';
import { describeWithSofthsm } from 'nestjs-secrets-test/describe-with-softhsm';
import { softhsmTokens, type SofthsmTokens } from 'nestjs-secrets-test/softhsm-tokens';
import pkcs11 from 'pkcs11js';

const DATA_KEY = Buffer.from('a data key that must not be seen');
const PLACE = Buffer.from('store, secret, version');

let tokens: SofthsmTokens;
const pins = new Map<string, string>();
let count = 0;

const provide = (options: Partial<Pkcs11KeysOptions> = {}): KeyProvider => {
  const { token = 'own' } = options;
  return pkcs11Keys({
    library: tokens.library,
    pin: pins.get(token) ?? '',
    id: `case-${count}`,
    deadlineMs: 30_000,
    attemptMs: 30_000,
    ...options,
    token,
  });
};

/** A session of the test's own, to look at the token with; the library is initialised by a provider that is open. */
const withSession = <T>(work: (module: pkcs11.PKCS11, session: pkcs11.Handle) => T): T => {
  const module = new pkcs11.PKCS11();
  module.load(tokens.library);
  const slot = module.C_GetSlotList(true).find((one) => module.C_GetTokenInfo(one).label.trim() === 'own');
  if (slot === undefined) throw new Error('no slot');
  const session = module.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
  const result = work(module, session);
  try {
    module.C_CloseSession(session);
  } catch (error) {
    // The work may have ended all sessions.
    if (!String(error).includes('CKR_SESSION_HANDLE_INVALID')) throw error;
  }
  return result;
};

const find = (module: pkcs11.PKCS11, session: pkcs11.Handle, id: string): pkcs11.Handle[] => {
  module.C_FindObjectsInit(session, [{ type: pkcs11.CKA_LABEL, value: `nestjs-secrets:${id}` }]);
  try {
    return module.C_FindObjects(session, 10);
  } finally {
    module.C_FindObjectsFinal(session);
  }
};

const failure = async (work: unknown): Promise<SecretsError> => {
  const error: unknown = await Promise.resolve(work).then(
    () => 'no failure',
    (reason: unknown) => reason,
  );
  if (!isSecretsError(error)) throw new Error(`not an error of ours: ${inspect(error)}`);
  const shown = inspect(error, { depth: 9, showHidden: true });
  for (const hidden of [DATA_KEY.toString(), ...pins.values()]) expect(shown).not.toContain(hidden);
  return error;
};

describeWithSofthsm('pkcs11Keys with SoftHSM', () => {
  const opened: KeyProvider[] = [];
  const open = async (options: Partial<Pkcs11KeysOptions> = {}): Promise<KeyProvider> => {
    const provider = provide(options);
    opened.push(provider);
    await provider.open();
    return provider;
  };
  const active = (provider: KeyProvider): CmkRef => provider.active() as CmkRef;

  beforeAll(async () => {
    tokens = await softhsmTokens();
    for (const label of ['own', 'others']) pins.set(label, await tokens.make(label));
  });
  afterAll(() => tokens.dispose());
  afterEach(async () => {
    for (const provider of opened.splice(0)) await provider.close();
    count += 1;
  });

  const harness = {
    outlive: true,
    createKeys: async () => {
      count += 1;
      const others = async (): Promise<void> => {
        count += 1;
      };
      return { connect: () => provide(), connectToOthers: () => provide({ token: 'others' }), dispose: others };
    },
  };
  for (const { name, run } of keyProviderConformance(harness)) it(name, run);

  it('makes keys that can neither be read nor leave the token', async () => {
    const provider = await open();
    withSession((module, session) => {
      const [key = Buffer.alloc(0), ...others] = find(module, session, `case-${count}`);
      expect(others).toEqual([]);
      const types = [pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_NEVER_EXTRACTABLE, pkcs11.CKA_PRIVATE];
      const values = module.C_GetAttributeValue(
        session,
        key,
        types.map((type) => ({ type })),
      );
      expect(values.map(({ value }) => value[0])).toEqual([1, 0, 1, 1]);
      expect(() => module.C_GetAttributeValue(session, key, [{ type: pkcs11.CKA_VALUE }])).toThrow(
        'CKR_ATTRIBUTE_SENSITIVE',
      );
      const wrap = (): unknown =>
        module.C_WrapKey(session, { mechanism: pkcs11.CKM_AES_KEY_WRAP }, key, key, Buffer.alloc(100));
      expect(wrap).toThrow(/CKR_KEY_(UNEXTRACTABLE|FUNCTION_NOT_PERMITTED)|CKR_WRAPPING_KEY/);
    });
    expect(await provider.list?.()).toContainEqual({ id: `case-${count}`, version: 1 });
  });

  it('opens sessions and logs in again when the sessions were lost', async () => {
    const provider = await open({ cachedDataKeys: 0 });
    const wrapped = await provider.wrap(active(provider), DATA_KEY, PLACE);
    for (let round = 0; round < 3; round += 1) {
      withSession((module, session) => module.C_CloseAllSessions(module.C_GetSessionInfo(session).slotID));
      expect(await provider.unwrap(active(provider), wrapped, PLACE)).toEqual(DATA_KEY);
      withSession((module, session) => module.C_Logout(session));
      const again = await provider.wrap(active(provider), DATA_KEY, PLACE);
      expect(await provider.unwrap(active(provider), again, PLACE)).toEqual(DATA_KEY);
    }
  });

  it('serves on while the token is unplugged, and goes on when it is back', async () => {
    const provider = await open({ dataKeyMaxAgeMs: 0 });
    const wrapped = await provider.wrap(active(provider), DATA_KEY, PLACE);
    await tokens.unplug();
    try {
      for (let index = 0; index < 10; index += 1)
        expect((await failure(provider.wrap(active(provider), DATA_KEY, PLACE))).code).toBe('KEY_UNAVAILABLE');
      expect(provider.status?.()).toMatchObject({ state: 'away' });
      for (let index = 0; index < 100; index += 1)
        expect(await provider.unwrap(active(provider), wrapped, PLACE)).toEqual(DATA_KEY);
    } finally {
      await tokens.plugIn();
    }
    for (;;) {
      const back = await Promise.resolve(provider.wrap(active(provider), DATA_KEY, PLACE)).catch(() => undefined);
      if (back !== undefined) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(provider.status?.()).toEqual({ state: 'available' });
    const fresh = await open();
    expect(await fresh.unwrap(active(fresh), wrapped, PLACE)).toEqual(DATA_KEY);
  });

  it('tries a PIN that is refused once, since a token locks after some attempts', async () => {
    let asked = 0;
    const pin = (): string => {
      asked += 1;
      return 'not the PIN';
    };
    const provider = provide({ pin });
    opened.push(provider);
    const { code, message } = await failure(provider.open());
    expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining('CKR_PIN_INCORRECT')]);
    expect(asked).toBe(1);
    expect(message).not.toContain('not the PIN');
    const right = await open({ pin: async () => pins.get('own') ?? '' });
    expect(await right.unwrap(active(right), await right.wrap(active(right), DATA_KEY, PLACE), PLACE)).toEqual(
      DATA_KEY,
    );
  });

  it('does not use a key that may leave the token', async () => {
    const provider = await open();
    const label = `nestjs-secrets:case-${count}`;
    withSession((module, session) => {
      module.C_GenerateKey(session, { mechanism: pkcs11.CKM_AES_KEY_GEN }, [
        { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_SECRET_KEY },
        { type: pkcs11.CKA_KEY_TYPE, value: pkcs11.CKK_AES },
        { type: pkcs11.CKA_VALUE_LEN, value: 32 },
        { type: pkcs11.CKA_TOKEN, value: true },
        { type: pkcs11.CKA_EXTRACTABLE, value: true },
        { type: pkcs11.CKA_ENCRYPT, value: true },
        { type: pkcs11.CKA_LABEL, value: label },
        { type: pkcs11.CKA_ID, value: Buffer.from('00000002', 'hex') },
      ]);
    });
    const { code, message } = await failure(provider.list?.());
    expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining('CKA_EXTRACTABLE')]);
    withSession((module, session) => {
      for (const key of find(module, session, `case-${count}`)) module.C_DestroyObject(session, key);
    });
  });

  it('makes no key where it must not', async () => {
    const { code, message } = await failure(provide({ create: 'never' }).open());
    expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining(`has no key case-${count}`)]);
    await open();
    expect(active(await open({ create: 'never' }))).toEqual({ id: `case-${count}`, version: 1 });
  });

  it('says what is missing: the library, the token', async () => {
    const library = await failure(provide({ library: '/nowhere/libnothing.so' }).open());
    expect([library.code, library.message]).toEqual(['KEY_PROVIDER_INVALID', expect.stringContaining('/nowhere')]);
    const token = await failure(provide({ token: 'none', deadlineMs: 3_000 }).open());
    expect([token.code, token.message]).toEqual(['KEY_UNAVAILABLE', expect.stringContaining('the token none')]);
    expect(() => provide({ id: 'my key' })).toThrow(expect.objectContaining({ code: 'KEY_PROVIDER_INVALID' }));
  });

  it('leaves the library as it was when the last provider has closed', async () => {
    const [one, other] = [await open(), await open()];
    await one.close();
    expect(await other.list?.()).toContainEqual(active(other));
    await other.close();
    expect(() => withSession(() => undefined)).toThrow('CKR_CRYPTOKI_NOT_INITIALIZED');
  });

  it('shows neither PIN nor data key when it is printed', async () => {
    const provider = await open();
    await provider.unwrap(active(provider), await provider.wrap(active(provider), DATA_KEY, PLACE), PLACE);
    const shown = inspect(provider, { depth: 9, showHidden: true }) + JSON.stringify(provider);
    expect(shown).not.toContain(pins.get('own'));
  });
});

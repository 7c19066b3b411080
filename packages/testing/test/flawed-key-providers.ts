import { createHash } from 'node:crypto';
import type { CmkRef, KeyProvider } from '@nestjs-secrets/core';

export interface KeyFlaw {
  /** What the flawed provider does in another way than the sound one it stands on. */
  readonly flaw: (provider: KeyProvider) => Partial<KeyProvider>;
  readonly noticedBy: RegExp;
}

const bound = (provider: KeyProvider): KeyProvider => ({
  name: provider.name,
  list: async () => (await provider.list?.()) ?? [],
  make: async (id) => (await provider.make?.(id)) ?? provider.active(),
  destroy: async (cmk) => provider.destroy?.(cmk),
  open: () => provider.open(),
  close: () => provider.close(),
  active: () => provider.active(),
  wrap: (cmk, dataKey, place) => provider.wrap(cmk, dataKey, place),
  unwrap: (cmk, wrapped, place) => provider.unwrap(cmk, wrapped, place),
});

export function flawedKeys(provider: KeyProvider, { flaw }: KeyFlaw): KeyProvider {
  const sound = bound(provider);
  return { ...sound, ...flaw(sound) };
}

const NOWHERE = Buffer.from('nowhere');

/** Providers with one flaw each, and a word from the name of a case that must notice. */
export const KEY_FLAWS: Record<string, KeyFlaw> = {
  'forgets the associated data': {
    flaw: (provider) => ({
      wrap: (cmk, dataKey) => provider.wrap(cmk, dataKey, NOWHERE),
      unwrap: (cmk, wrapped) => provider.unwrap(cmk, wrapped, NOWHERE),
    }),
    noticedBy: /same associated data only/,
  },
  'looks at the length of the associated data only': {
    flaw: (provider) => {
      const lengthOf = (place: Uint8Array): Buffer => Buffer.from(String(place.length));
      return {
        wrap: (cmk, dataKey, place) => provider.wrap(cmk, dataKey, lengthOf(place)),
        unwrap: (cmk, wrapped, place) => provider.unwrap(cmk, wrapped, lengthOf(place)),
      };
    },
    noticedBy: /same associated data only/,
  },
  'cuts the associated data off': {
    flaw: (provider) => ({
      wrap: (cmk, dataKey, place) => provider.wrap(cmk, dataKey, place.subarray(0, 40)),
      unwrap: (cmk, wrapped, place) => provider.unwrap(cmk, wrapped, place.subarray(0, 40)),
    }),
    noticedBy: /same associated data only/,
  },
  'finds data keys by the wrapped key alone': {
    flaw: (provider) => {
      const known = new Map<string, Buffer>();
      return {
        unwrap: async (cmk, wrapped, place) => {
          const name = createHash('sha256').update(wrapped).digest('hex');
          const dataKey = known.get(name) ?? (await provider.unwrap(cmk, wrapped, place));
          known.set(name, Buffer.from(dataKey));
          return Buffer.from(dataKey);
        },
      };
    },
    noticedBy: /same associated data only/,
  },
  'finds data keys by the place alone': {
    flaw: (provider) => {
      const known = new Map<string, Buffer>();
      return {
        unwrap: async (cmk, wrapped, place) => {
          const name = Buffer.from(place).toString('hex');
          const dataKey = known.get(name) ?? (await provider.unwrap(cmk, wrapped, place));
          known.set(name, Buffer.from(dataKey));
          return Buffer.from(dataKey);
        },
        wrap: async (cmk, dataKey, place) => {
          known.set(Buffer.from(place).toString('hex'), Buffer.from(dataKey));
          return provider.wrap(cmk, dataKey, place);
        },
      };
    },
    noticedBy: /changed bit in every byte/,
  },
  'gives away the buffer it keeps': {
    flaw: (provider) => {
      const known = new Map<string, Buffer>();
      return {
        unwrap: async (cmk, wrapped, place) => {
          const name = Buffer.concat([wrapped, place]).toString('hex');
          const dataKey = known.get(name) ?? (await provider.unwrap(cmk, wrapped, place));
          known.set(name, dataKey);
          return dataKey;
        },
      };
    },
    noticedBy: /gives away a buffer of its own/,
  },
  'zeroes the data key of the caller': {
    flaw: (provider) => ({
      wrap: async (cmk, dataKey, place) => {
        const wrapped = await provider.wrap(cmk, dataKey, place);
        dataKey.fill(0);
        return wrapped;
      },
    }),
    noticedBy: /gives away a buffer of its own/,
  },
  'does not wrap': {
    flaw: () => ({
      wrap: (_cmk, dataKey) => Buffer.from(dataKey),
      unwrap: (_cmk, wrapped) => Buffer.from(wrapped),
    }),
    noticedBy: /hides the data key/,
  },
  'reads only the beginning of a wrapped key': {
    flaw: (provider) => ({
      unwrap: (cmk, wrapped, place) => provider.unwrap(cmk, wrapped.subarray(0, 60), place),
    }),
    noticedBy: /too short or too long/,
  },
  'uses the active key whatever is asked for': {
    flaw: (provider) => ({
      wrap: async (_cmk, dataKey, place) => provider.wrap(await provider.active(), dataKey, place),
      unwrap: async (_cmk, wrapped, place) => provider.unwrap(await provider.active(), wrapped, place),
    }),
    noticedBy: /under the keys it has, and no others/,
  },
  'counts on in its version': {
    flaw: (provider) => {
      let count = 0;
      return {
        active: async (): Promise<CmkRef> => {
          const { id, version } = await provider.active();
          return { id, version: version + count++ };
        },
      };
    },
    noticedBy: /names itself/,
  },
  'has an id that cannot stand in an envelope': {
    flaw: (provider) => ({
      active: async () => ({ ...(await provider.active()), id: 'my key' }),
      wrap: async (_cmk, dataKey, place) => provider.wrap(await provider.active(), dataKey, place),
      unwrap: async (_cmk, wrapped, place) => provider.unwrap(await provider.active(), wrapped, place),
    }),
    noticedBy: /names itself/,
  },
  'quotes the data key in its errors': {
    flaw: (provider) => {
      let last: unknown;
      return {
        wrap: (cmk, dataKey, place) => {
          last = { key: Buffer.from(dataKey).toString('base64') };
          return provider.wrap(cmk, dataKey, place);
        },
        unwrap: async (cmk, wrapped, place) => {
          try {
            return await provider.unwrap(cmk, wrapped, place);
          } catch (error) {
            if (typeof error === 'object' && error !== null) Object.assign(error, { request: last });
            throw error;
          }
        },
      };
    },
    noticedBy: /same associated data only/,
  },
  'throws whatever it gets': {
    flaw: (provider) => ({
      unwrap: async (cmk, wrapped, place) => {
        try {
          return await provider.unwrap(cmk, wrapped, place);
        } catch {
          throw new Error('InvalidCiphertextException');
        }
      },
    }),
    noticedBy: /changed bit in every byte/,
  },
  'answers with something else where it should fail': {
    flaw: (provider) => ({
      unwrap: async (cmk, wrapped, place) => {
        try {
          return await provider.unwrap(cmk, wrapped, place);
        } catch {
          return Buffer.alloc(32);
        }
      },
    }),
    noticedBy: /same associated data only/,
  },
  'mixes up what is asked for at once': {
    flaw: (provider) => {
      let turn: Promise<Buffer> | undefined;
      return {
        unwrap: (cmk, wrapped, place) => {
          turn ??= Promise.resolve(provider.unwrap(cmk, wrapped, place)).finally(() => (turn = undefined));
          return turn.then((dataKey) => Buffer.from(dataKey));
        },
      };
    },
    noticedBy: /keeps apart/,
  },
  'shows the last data key when it is printed': {
    flaw: (provider) => {
      const flawed = {
        last: '',
        wrap: (cmk: CmkRef, dataKey: Uint8Array, place: Uint8Array) => {
          Object.assign(flawed.holder, { last: Buffer.from(dataKey) });
          return provider.wrap(cmk, dataKey, place);
        },
        holder: {},
      };
      return flawed;
    },
    noticedBy: /when it is printed/,
  },
  'lists what was there at first': {
    flaw: (provider) => {
      let listed: Promise<readonly CmkRef[]> | undefined;
      return { list: () => (listed ??= provider.list?.() ?? Promise.resolve([])) };
    },
    noticedBy: /makes versions and keys/,
  },
  'makes the same version again': {
    flaw: (provider) => ({ make: async () => provider.active() }),
    noticedBy: /makes versions and keys/,
  },
  'does not destroy': {
    flaw: () => ({ destroy: async () => undefined }),
    noticedBy: /destroys a version/,
  },
  'works on after close()': {
    flaw: () => ({ close: async () => undefined }),
    noticedBy: /before open\(\) and after close\(\)/,
  },
  'cannot be closed twice': {
    flaw: (provider) => {
      let open = true;
      return {
        close: async () => {
          if (!open) throw new Error('closed already');
          open = false;
          await provider.close();
        },
        open: async () => {
          open = true;
          await provider.open();
        },
      };
    },
    noticedBy: /before open\(\) and after close\(\)/,
  },
};

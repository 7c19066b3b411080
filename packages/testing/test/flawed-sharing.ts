import type { Flaw } from './flawed-drivers.js';

/** A door to shared data with one flaw, and a word from the name of a case that must notice. */
export const SHARED_FLAWS: Record<string, Flaw> = {
  'judges conditions on what it has read before': {
    flaw: (driver) => ({
      async commit(commit) {
        const entries = await Promise.all(commit.conditions.map(({ key }) => driver.get(key)));
        const holds = commit.conditions.every(({ revision }, index) => (entries[index]?.revision ?? 0) === revision);
        return holds ? driver.commit({ ...commit, conditions: [] }) : undefined;
      },
    }),
    noticedBy: /one driver win each round/,
  },
  'locks only the first key': {
    flaw: (driver) => ({
      commit: (commit) => driver.commit({ ...commit, conditions: commit.conditions.slice(0, 1) }),
    }),
    noticedBy: /one driver win each round/,
  },
  'now and then asks a replica that lags': {
    flaw: (driver) => {
      let asked = 0;
      let earlier = 0;
      return {
        async revision() {
          asked += 1;
          const answer = asked % 3 === 0 ? earlier : await driver.revision();
          earlier = await driver.revision().then((now) => Math.max(0, now - 2));
          return answer;
        },
      };
    },
    noticedBy: /a revision that falls/,
  },
  'hears the first hundred keys of a commit': {
    flaw: (driver) => ({
      watch: (onHint, prefixes) =>
        driver.watch(({ keys }) => onHint(keys === undefined ? {} : { keys: keys.slice(0, 100) }), prefixes),
    }),
    noticedBy: /large commits of the other driver/,
  },
  'goes deaf to others when narrowed': {
    flaw: (driver) => ({
      watch: (onHint, prefixes) => (prefixes === undefined ? driver.watch(onHint) : () => undefined),
    }),
    noticedBy: /a narrowed watch at commits of the other driver/,
  },
};

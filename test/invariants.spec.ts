import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from '@jest/globals';

/** The titles of all tests of the workspace, with the file each stands in. */
function titles(): { readonly file: string; readonly title: string }[] {
  const folders = ['test', ...readdirSync('packages').map((name) => path.join('packages', name, 'test'))];
  const files = folders.filter(existsSync).flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.spec.ts'))
      .map((name) => path.join(folder, name)),
  );
  return files.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/^\s*(?:it\(|it\.each\(|it\.each<|\]\)\(|\)\()\s*['"`](.*)['"`]/gm)].map(
      ([, title = '']) => ({ file, title }),
    ),
  );
}

describe('the invariants of DESIGN.md section 4', () => {
  it.each([
    ['I1', 'No lockout'],
    ['I2', 'One rotator'],
    ['I3', 'Nothing torn'],
    ['I4', 'No going back'],
    ['I5', 'No early retirement'],
    ['I6', 'Dead means dead'],
    ['I7', 'Nothing leaks'],
    ['I8', 'Nothing unaudited'],
    ['I9', 'Nothing lost'],
  ])('%s %s: borne by an end-to-end test', (number) => {
    const bearing = titles().filter(({ title }) => new RegExp(`^(I\\d )*${number} `).test(title));
    expect(bearing.map(({ file }) => file)).toContainEqual(expect.stringMatching(/^test\//));
  });
});

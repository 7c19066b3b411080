import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { MarkdownPage } from './markdown-page.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const docs = path.join(repository, 'docs');
const page = MarkdownPage.read(path.join(docs, 'threat-model.md'));

interface Proof {
  readonly file: string;
  readonly name: string;
}

/** Tests named in a page: a link to a spec, a colon, and (part of) the name of a test in it. */
function proofsIn(text: string): Proof[] {
  return [...text.matchAll(/\]\(([^)\s]+\.spec\.ts)\): "([^"]+)"/g)].map(([, file = '', name = '']) => ({
    file,
    name,
  }));
}

function problemOf({ file, name }: Proof): string | undefined {
  const target = path.join(docs, file);
  if (!existsSync(target)) return `${file} does not exist`;
  return titlesIn(readFileSync(target, 'utf8')).some((title) => title.includes(name))
    ? undefined
    : `${file} has no test "${name}"`;
}

/** What a spec calls its tests, or gives to what makes them: the first string of a line that begins with one, or with a call or table that has one. */
function titlesIn(spec: string): string[] {
  const title = /^\s*(?:(?:it|describe\w*|conformance)(?:\.each)?(?:<[^>]*>)?\(|[^'"`\n]*\)\(|\[)?\s*(['"`])(.*?)\1/gm;
  return [...spec.matchAll(title)].map(([, , text = '']) => text);
}

const withoutComments = page.text.replaceAll(/<!--.*?-->/gs, '');

describe('docs/threat-model.md', () => {
  it('names tests that exist', () => {
    const proofs = proofsIn(withoutComments);
    expect(proofs.length).toBeGreaterThan(30);
    expect(proofs.map(problemOf).filter((problem) => problem !== undefined)).toEqual([]);
  });

  it('names a test with every spec it links to', () => {
    const links = [...withoutComments.matchAll(/\]\([^)\s]+\.spec\.ts\)/g)];
    expect(links).toHaveLength(proofsIn(withoutComments).length);
  });

  it('would be found out if it named others', () => {
    // The last stands in the spec, but is the name of nothing.
    const wrong =
      '[a](nowhere.spec.ts): "x", [b](../test/canary.spec.ts): "no such test", [c](../test/canary.spec.ts): "beforeAll(async"';
    expect(proofsIn(wrong).map(problemOf)).toEqual([
      'nowhere.spec.ts does not exist',
      '../test/canary.spec.ts has no test "no such test"',
      '../test/canary.spec.ts has no test "beforeAll(async"',
    ]);
  });

  it.each([
    ['11', [4, 5, 5, 4, 2, 2, 2]],
    ['13', [4, 6, 4, 7]],
    ['14', [2, 8, 3]],
  ])('says something of each requirement of chapter %s', (chapter, sections) => {
    const wanted = sections.flatMap((count, section) =>
      Array.from({ length: count }, (_, index) => `${chapter}.${section + 1}.${index + 1}`),
    );
    const said = withoutComments.split('\n').flatMap((line) => {
      const [, first, last] = /^\| (\d+\.\d+\.\d+)(?:–(\d+))? \|/.exec(line) ?? [];
      if (first === undefined) return [];
      const [section, from] = [first.slice(0, first.lastIndexOf('.')), first.slice(first.lastIndexOf('.') + 1)];
      const count = Number(last ?? from) - Number(from) + 1;
      return Array.from({ length: count }, (_, index) => `${section}.${Number(from) + index}`);
    });
    expect(said.filter((requirement) => requirement.startsWith(`${chapter}.`))).toEqual(wanted);
  });
});

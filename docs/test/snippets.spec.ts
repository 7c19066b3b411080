import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { MarkdownPage } from './markdown-page.js';
import { compilerErrors } from './snippet-compiler.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const docs = readdirSync(path.join(repository, 'docs')).filter((file) => file.endsWith('.md'));
const packages = readdirSync(path.join(repository, 'packages'));
const files = [
  'README.md',
  ...docs.map((file) => `docs/${file}`),
  ...packages.map((name) => `packages/${name}/README.md`),
  'sample-app/README.md',
].filter((file) => existsSync(path.join(repository, file)));
const pages = new Map(files.map((file) => [file, MarkdownPage.read(path.join(repository, file))]));

const BROKEN = {
  'broken-option.ts':
    "import { SecretsModule } from '@nestjs-secrets/core';\nSecretsModule.forRoot({ stroe: undefined });\n",
  'broken-import.ts': "import { liveOracle } from '@nestjs-secrets/typeorm';\nliveOracle();\n",
  'broken-syntax.ts': 'export const secret = {;\n',
};

describe('code in the pages', () => {
  let errors: Map<string, string[]>;
  const snippets = new Map<string, string>();
  for (const [file, { fences }] of pages) {
    for (const { language, code, line } of fences) {
      if (/^(ts|typescript)$/.test(language)) snippets.set(`${file.replaceAll('/', '.')}.${line}.ts`, code);
    }
  }

  beforeAll(() => {
    errors = compilerErrors(repository, new Map([...snippets, ...Object.entries(BROKEN)]));
  });

  it('is there', () => {
    expect([...snippets.keys()].some((name) => name.startsWith('README.md'))).toBe(true);
    expect(snippets.size).toBeGreaterThan(5);
  });

  it.each([...snippets.keys()])('compiles: %s', (name) => {
    expect(errors.get(name)).toEqual([]);
  });

  it.each(Object.keys(BROKEN))('would not pass broken: %s', (name) => {
    expect(errors.get(name)).not.toEqual([]);
  });

  it('that is said to run is in the example that does', () => {
    const said = [...pages].flatMap(([file, { fences }]) => fences.map((fence) => ({ file, ...fence })));
    const quoting = said.filter(({ partOf }) => partOf !== undefined);
    expect(quoting.length).toBeGreaterThan(5);
    expect(quoting.filter(({ partOf = '', code }) => !runsIn(partOf, code))).toEqual([]);
  });

  it('would be found when it has strayed from its example', () => {
    expect(runsIn('examples/mailer.ts', '@Injectable()\nexport class Mailer {')).toBe(true);
    expect(runsIn('examples/mailer.ts', '@Injectable()\nexport class Postman {')).toBe(false);
  });
});

describe('links in the pages', () => {
  it.each([...pages.keys()])('lead somewhere: %s', (file) => {
    expect(brokenLinks(file, pages.get(file)?.links ?? [])).toEqual([]);
  });

  it('would be found when they lead nowhere', () => {
    const links = [
      'nowhere.md',
      '#no-such-heading',
      'envelope.md#no-such-heading',
      'concepts.md',
      'https://example.com/',
    ];
    expect(brokenLinks('docs/README.md', links)).toEqual(links.slice(0, 3));
  });
});

function brokenLinks(file: string, links: readonly string[]): string[] {
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [to = '', anchor] = link.split('#');
    const target = to === '' ? path.join(repository, file) : path.join(repository, path.dirname(file), to);
    if (!existsSync(target)) return true;
    return anchor !== undefined && target.endsWith('.md') && !MarkdownPage.read(target).anchors.has(anchor);
  });
}

function runsIn(example: string, code: string): boolean {
  const file = path.join(repository, 'docs', example);
  return existsSync(file) && readFileSync(file, 'utf8').includes(code);
}

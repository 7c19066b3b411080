import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

const BUILD = 'dist/esm';

const packageNames = (): Promise<string[]> => readdir('packages');

/** A copy of the built packages and programs in which one file at a time can be broken. Everything else is the repository's. */
export class Mutant {
  private constructor(private readonly folder: string) {}

  static async at(folder: string): Promise<Mutant> {
    const modules = path.join(folder, 'node_modules');
    await mkdir(path.join(modules, '@nestjs-secrets'), { recursive: true });
    for (const name of await readdir('node_modules'))
      if (name !== '@nestjs-secrets') await symlink(path.resolve('node_modules', name), path.join(modules, name));
    for (const name of await packageNames()) {
      const copy = path.join(modules, '@nestjs-secrets', name);
      await cp(path.join('packages', name, BUILD), path.join(copy, BUILD), { recursive: true });
      await cp(path.join('packages', name, 'package.json'), path.join(copy, 'package.json'));
    }
    await cp('test/dist', path.join(folder, 'dist'), { recursive: true });
    await writeFile(path.join(folder, 'package.json'), '{ "type": "module" }\n');
    return new Mutant(folder);
  }

  get programs(): string {
    return path.join(this.folder, 'dist');
  }

  /** The compiled file. @param file package and path in its build, without the extension */
  source(file: string): Promise<string> {
    return readFile(this.#pathOf(file), 'utf8');
  }

  /** Does the work while a file is broken. @param file package and path in its build, without the extension */
  async whileBroken<T>(file: string, broken: (source: string) => string, work: () => Promise<T>): Promise<T> {
    const target = this.#pathOf(file);
    const source = await this.source(file);
    await writeFile(target, broken(source));
    try {
      return await work();
    } finally {
      await writeFile(target, source);
    }
  }

  #pathOf(file: string): string {
    const [name = '', ...rest] = file.split('/');
    return path.join(this.folder, 'node_modules/@nestjs-secrets', name, BUILD, `${rest.join('/')}.js`);
  }
}

export interface Call {
  /** Package and path in its build, without the extension. */
  readonly file: string;
  /** The call as it is written. */
  readonly text: string;
  /** Which of the calls in this file that look the same, from 0. */
  readonly index: number;
}

/** Every call of a function in the built packages, but where it is defined. */
export async function callsOf(name: string): Promise<Call[]> {
  const calls: Call[] = [];
  for (const packageName of (await packageNames()).sort()) {
    const build = path.join('packages', packageName, BUILD);
    const files = (await readdir(build, { recursive: true })).filter((file) => file.endsWith('.js')).sort();
    for (const file of files) {
      const source = await readFile(path.join(build, file), 'utf8');
      const seen = new Map<string, number>();
      for (const [text, before] of source.matchAll(
        new RegExp(`(function )?${name}\\((?:[^()]|\\([^()]*\\))*\\)`, 'g'),
      )) {
        if (before !== undefined) continue;
        const index = seen.get(text) ?? 0;
        seen.set(text, index + 1);
        calls.push({ file: `${packageName}/${file.slice(0, -'.js'.length)}`, text, index });
      }
    }
  }
  return calls;
}

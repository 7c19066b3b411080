import { existsSync } from 'node:fs';
import path from 'node:path';

/** Where a program of this name is; undefined when it is not installed. */
export function programPath(name: string): string | undefined {
  // Debian keeps servers in /usr/sbin, which is not in everybody's PATH.
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin', '/usr/local/sbin'];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}

/** @throws Error naming the Debian package when there is no such program. */
export function program(name: string, debianPackage: string): string {
  const found = programPath(name);
  if (found === undefined) throw new Error(`${name} is not installed: install the Debian package ${debianPackage}.`);
  return found;
}

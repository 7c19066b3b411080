/** The part of better-sqlite3 that the benchmark's baseline uses; the package brings no types. */
declare module 'better-sqlite3' {
  export default class Database {
    constructor(path: string);
    pragma(source: string): unknown;
    exec(sql: string): void;
    prepare(sql: string): { run(...parameters: unknown[]): unknown };
    transaction<A extends unknown[]>(body: (...parameters: A) => void): (...parameters: A) => void;
    close(): void;
  }
}

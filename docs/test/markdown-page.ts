import { readFileSync } from 'node:fs';

/** A block of code in a page. */
export interface Fence {
  /** `ts`, `sh`…; empty when none is stated. */
  readonly language: string;
  readonly code: string;
  /** Where the code begins, counted from 1. */
  readonly line: number;
  /** What a comment right before the fence (`<!-- runs as examples/x.ts -->`) says that it is a part of. */
  readonly partOf: string | undefined;
}

/** The parts of a Markdown page that can be wrong in a way a program can see. */
export class MarkdownPage {
  readonly fences: readonly Fence[];
  /** Where the links of the page lead, in its own words. */
  readonly links: readonly string[];
  /** What `#…` may be in a link to this page, as GitHub makes it of the headings. */
  readonly anchors: ReadonlySet<string>;

  constructor(readonly text: string) {
    const fences: Fence[] = [];
    const prose: string[] = [];
    const lines = text.split('\n');
    for (let at = 0; at < lines.length; at += 1) {
      const opening = /^\s*```(\S*)/.exec(lines[at] ?? '');
      if (opening === null) {
        prose.push(lines[at] ?? '');
        continue;
      }
      const start = at + 1;
      const length = lines.slice(start).findIndex((line) => /^\s*```\s*$/.test(line));
      const end = length === -1 ? lines.length : start + length;
      const partOf = /^<!-- runs as (\S+) -->$/.exec(lines[at - 1]?.trim() ?? '')?.[1];
      fences.push({ language: opening[1] ?? '', code: lines.slice(start, end).join('\n'), line: start + 1, partOf });
      at = end;
    }
    this.fences = fences;
    const words = prose.join('\n');
    this.links = [...words.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '');
    this.anchors = new Set([...words.matchAll(/^#{1,6} +(.+)$/gm)].map((match) => anchorOf(match[1] ?? '')));
  }

  static read(file: string): MarkdownPage {
    return new MarkdownPage(readFileSync(file, 'utf8'));
  }
}

function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');
}

import { readFileSync, readlinkSync } from 'node:fs';

/** Says which process of which running system this is, so that another process there can tell whether it still lives. */
export interface ProcessIdentity {
  /** The boot of the system and the namespace that process ids are counted in. */
  readonly system: string;
  readonly pid: number;
  /** When the process began, in ticks since the boot: process ids are used again. */
  readonly startedAt: string;
}

/** What the operating system knows of processes. */
export interface ProcessTable {
  /** Undefined where the system has no way to say. */
  self(): ProcessIdentity | undefined;
  /** True only when the process is known to have ended: it ran on this very system, and no longer does. */
  hasEnded(identity: ProcessIdentity): boolean;
}

/** Linux's, from `/proc`; elsewhere nothing is known of any process. */
export const systemProcesses: ProcessTable = {
  self() {
    const [system, startedAt] = [readSystem(), readStart(process.pid)];
    return system === undefined || startedAt === undefined ? undefined : { system, pid: process.pid, startedAt };
  },
  hasEnded({ system, pid, startedAt }) {
    return system === readSystem() && readStart(pid) !== startedAt;
  },
};

/** For worlds in which nothing is known of any process. */
export const unknownProcesses: ProcessTable = { self: () => undefined, hasEnded: () => false };

function readSystem(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return undefined;
  }
}

/** Field 22 of `/proc/<pid>/stat`, see proc(5); the name in field 2 may hold anything, so counting begins behind its last parenthesis. */
function readStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended, though its parent has not been told yet.
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

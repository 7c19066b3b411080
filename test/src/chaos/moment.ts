/**
 * Now, in milliseconds since the epoch with fractions. Never goes backwards within a process, passes while the process is stopped, and agrees
 * with other processes and the servers of this machine.
 */
export function moment(): number {
  return performance.timeOrigin + performance.now();
}

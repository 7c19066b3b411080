import type { SchedulerRegistry } from '@nestjs/schedule';
import type { Cancel, Clock } from '../foundation/clock.js';
import type { ScheduleTimers } from '../rotation/rotation-scheduler.js';

/**
 * Timers in the application's `SchedulerRegistry` where `ScheduleModule` is imported, so that the timer of the next due rotation can be seen there among its
 * timeouts (`nestjs-secrets:rotations`); timers of our own otherwise.
 */
export function scheduleTimers(clock: Clock, registry: () => SchedulerRegistry | undefined): ScheduleTimers {
  return {
    set(name, delayMs, task): Cancel {
      const schedule = registry();
      if (schedule === undefined) return clock.after(delayMs, task);
      const forget = (): void => {
        if (schedule.doesExist('timeout', name)) schedule.deleteTimeout(name);
      };
      const timer = setTimeout(() => {
        forget();
        task();
      }, delayMs);
      timer.unref();
      forget();
      schedule.addTimeout(name, timer);
      return forget;
    },
  };
}

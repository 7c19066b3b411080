import type { LoggerService } from '@nestjs/common';
import type { LogCensor } from '../foundation/log-censor.js';

/**
 * A logger for Nest that blots live secret values out of whatever it is told and passes it on:
 * `app.useLogger(censoredLogger(new ConsoleLogger(), app.get(LogCensor)))`. Messages, objects, errors with their causes, and contexts alike.
 */
export function censoredLogger(logger: LoggerService, censor: LogCensor): LoggerService {
  const clean = (things: readonly unknown[]): unknown[] => things.map((thing) => censor.thing(thing));
  const passOn =
    (level: 'log' | 'error' | 'warn' | 'debug' | 'verbose' | 'fatal') =>
    (message: unknown, ...more: unknown[]): void =>
      void logger[level]?.(censor.thing(message), ...clean(more));
  return {
    log: passOn('log'),
    error: passOn('error'),
    warn: passOn('warn'),
    debug: passOn('debug'),
    verbose: passOn('verbose'),
    fatal: passOn('fatal'),
    setLogLevels: (levels) => logger.setLogLevels?.(levels),
  };
}

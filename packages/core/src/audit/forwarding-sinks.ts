import type { SealedRecord } from './audit-chain.js';
import type { AuditEvent } from './audit-event.js';
import type { AuditSink } from './audit-sink.js';

/** What `Logger` of Nest, the console and nestjs-pino have. */
export interface AuditLoggerPort {
  log(message: string): void;
}

/** What pino, and loggers like it, have. */
export interface AuditObjectLoggerPort {
  info(fields: object, message: string): void;
}

/**
 * Passes events to the application's logger: to `log` as the line of the log, to `info` as an object with a message. Keeps nothing, so the log
 * cannot be verified from there. A logger is done when its call returns: as a required sink it proves little.
 */
export function auditLogger(logger: AuditLoggerPort | AuditObjectLoggerPort): AuditSink {
  return forwardingSink('the logger', (record) => {
    if ('log' in logger) logger.log(record.line);
    else {
      const event = eventOf(record);
      logger.info({ audit: event, sequence: record.sequence }, `audit: ${event.eventName}`);
    }
  });
}

/** `Logger` of `@opentelemetry/api-logs`, as far as it is needed here. */
export interface OpenTelemetryLoggerPort {
  emit(record: {
    readonly eventName?: string;
    /** Milliseconds since the Unix epoch. */
    readonly timestamp?: number;
    readonly severityNumber?: number;
    readonly severityText?: string;
    readonly body?: string;
    readonly attributes?: Record<string, string | number>;
  }): void;
}

// Logs Data Model of OpenTelemetry, "Displaying Severity".
const INFO = { severityNumber: 9, severityText: 'INFO' };
const WARN = { severityNumber: 13, severityText: 'WARN' };

/**
 * Passes events on as OpenTelemetry log records: the canonical JSON of the event as body, what one filters by as attributes; what failed or was denied as
 * WARN. Give it `logs.getLogger('audit')` of `@opentelemetry/api-logs`; the SDK batches, so as a required sink it proves little.
 */
export function auditOpenTelemetry(logger: OpenTelemetryLoggerPort): AuditSink {
  return forwardingSink('OpenTelemetry', (record) => {
    const event = eventOf(record);
    const attributes: Record<string, string | number> = {
      'audit.sequence': record.sequence,
      'audit.event_id': event.eventId,
      'audit.event_rw': event.eventRW,
      'audit.principal': event.userIdentity.principalId,
    };
    const optional = {
      'audit.resource_name': event.resourceName,
      'audit.request_id': event.requestId,
      'client.address': event.sourceIpAddress,
      'error.type': event.errorCode,
    };
    for (const [name, value] of Object.entries(optional)) if (value !== undefined) attributes[name] = value;
    const severity = event.errorCode === undefined ? INFO : WARN;
    logger.emit({ eventName: event.eventName, timestamp: record.time, ...severity, body: record.event, attributes });
  });
}

function forwardingSink(name: string, pass: (record: SealedRecord) => void): AuditSink {
  let passed = 0;
  return {
    name,
    open: async () => undefined,
    append: async (records) => {
      for (const record of records) {
        // What comes again since a later one failed has been passed on already.
        if (record.sequence <= passed) continue;
        pass(record);
        passed = record.sequence;
      }
    },
    close: async () => {},
  };
}

function eventOf({ event }: SealedRecord): AuditEvent {
  return JSON.parse(event);
}

import { ConsoleLogger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { censoredLogger, LogCensor } from '@nestjs-secrets/core';
import { AppModule, Payments } from './careless-payments.js';

/** Logs to `logger`, as the application would to the console. */
export async function main(logger: ConsoleLogger = new ConsoleLogger()): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { bufferLogs: true, abortOnError: false });
  app.useLogger(censoredLogger(logger, app.get(LogCensor)));
  app.get(Payments).charge();
  await app.close();
}

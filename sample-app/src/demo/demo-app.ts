// MyApp with the demo's additions, in a process of its own: `node demo-app.js live|naive`, configured by its environment.
import 'reflect-metadata';
import type { Server } from 'node:http';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AppModule } from '../app.module.js';
import { DemoModule } from './demo.module.js';
import { tellDemo } from './messages.js';
import { NaiveAppModule } from './naive-app.module.js';

@Module({ imports: [process.argv[2] === 'naive' ? NaiveAppModule : AppModule, DemoModule] })
class DemoAppModule {}

const app = await NestFactory.create(DemoAppModule, { logger: ['warn', 'error', 'fatal'] });
app.enableShutdownHooks();
// The demo must not count connections that HTTP closes for being idle as failures of the database.
(app.getHttpServer() as Server).keepAliveTimeout = 60_000;
await app.listen(0, '127.0.0.1');
process.on('disconnect', () => void app.close().then(() => process.exit()));
tellDemo({ type: 'listening', url: await app.getUrl() });

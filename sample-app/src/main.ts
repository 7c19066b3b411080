import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { configuration, type Configuration } from './configuration.js';

const app = await NestFactory.create(AppModule);
app.enableShutdownHooks();
await app.listen(app.get<Configuration>(configuration.KEY).port);
new Logger('MyApp').log(`listening on ${await app.getUrl()}`);

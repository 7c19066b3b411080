import type { DatabaseCredentials, StoreDriver } from '@nestjs-secrets/core';
import { etcdStore } from '@nestjs-secrets/etcd';
import { redisStore } from '@nestjs-secrets/redis';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { DataSource } from 'typeorm';
import { startEtcd } from '../etcd-server.js';
import { startRedis } from '../redis-server.js';
import type { Address } from './faulty-link.js';

export type FleetStoreKind = 'postgres' | 'redis' | 'etcd';

/** Where a fleet keeps its secrets. */
export interface FleetStorePlace extends Address {
  readonly kind: FleetStoreKind;
  /** Of PostgreSQL. */
  readonly database: string;
  readonly credentials: DatabaseCredentials;
}

/** A server that keeps a store, besides the PostgreSQL that is the target. */
export interface FleetStoreServer extends Address {
  readonly admin: DatabaseCredentials;
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** @param name how its connections are known to the server, where it asks */
export function fleetStoreAt(place: FleetStorePlace, name: string, answerWithinMs: number): StoreDriver {
  const { kind, host, port, database, credentials } = place;
  if (kind === 'redis') {
    const options = { ...credentials, name: name.replaceAll(' ', '-'), socket: { host, port } };
    return redisStore(options, { answerWithinMs });
  }
  if (kind === 'etcd') {
    return etcdStore({ endpoints: `http://${host}:${port}`, ...credentials }, { answerWithinMs });
  }
  const options = { type: 'postgres', host, port, database, ...credentials, applicationName: name } as const;
  return sqlStore(new DataSource(options), { answerWithinMs });
}

/** Undefined for PostgreSQL, of which the fleet has one. */
export async function startFleetStore(kind: FleetStoreKind): Promise<FleetStoreServer | undefined> {
  if (kind === 'postgres') return undefined;
  return kind === 'redis' ? startRedis() : startEtcd();
}

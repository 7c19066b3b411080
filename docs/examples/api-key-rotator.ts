import { Injectable } from '@nestjs/common';
import {
  type CreateContext,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  Rotator,
  type SecretRotator,
} from '@nestjs-secrets/core';

export interface ApiKey {
  readonly id: string;
  readonly key: string;
}

@Injectable()
export class OrdersApi {
  url = '';

  /** 200 with a valid key, 401 with any other. */
  async tryKey({ key }: ApiKey, signal: AbortSignal): Promise<number> {
    return (await fetch(`${this.url}/orders`, { headers: { authorization: key }, signal })).status;
  }

  async administer(method: 'PUT' | 'DELETE', { id, key }: ApiKey, signal: AbortSignal): Promise<void> {
    const body = method === 'PUT' ? { body: key } : {};
    const { ok, status } = await fetch(`${this.url}/keys/${id}`, {
      method,
      headers: { authorization: 'admin' },
      signal,
      ...body,
    });
    if (!ok) throw new Error(`The key service answered ${status} to ${method} of key ${id}`);
  }
}

/** Two keys are valid side by side until the old one is deleted, so nobody is ever refused. */
@Rotator('orders-api/key')
@Injectable()
export class ApiKeyRotator implements SecretRotator<ApiKey> {
  constructor(private readonly api: OrdersApi) {}

  /** Only makes a value: it is stored, sealed, before the service hears of it. */
  create({ rotationId, randomPassword }: CreateContext<ApiKey>): ApiKey {
    return { id: rotationId, key: randomPassword({ length: 40, excludePunctuation: true }) };
  }

  /** PUT, so that doing it twice, after a crash, comes to the same. */
  async apply({ pending, signal }: PendingContext<ApiKey>): Promise<void> {
    await this.api.administer('PUT', pending.value, signal);
  }

  async verify({ pending, signal }: PendingContext<ApiKey>): Promise<void> {
    const status = await this.api.tryKey(pending.value, signal);
    if (status !== 200) throw new Error(`The new key got ${status}`);
  }

  /** Nobody holds the old key any more. Deletes it, and proves that it is dead. */
  async retire({ retiring, signal }: RetireContext<ApiKey>): Promise<RetireReport> {
    await this.api.administer('DELETE', retiring.value, signal);
    const status = await this.api.tryKey(retiring.value, signal);
    if (status !== 401) throw new Error(`The old key got ${status} instead of a refusal`);
    return { refused: true, sessionsEnded: 0, sessionsLeft: 0 };
  }
}

import { KeyProviderError } from '@nestjs-secrets/core';
import * as openApi from '@alicloud/openapi-client';

export interface AlibabaClientOptions {
  /** Such as `cn-hangzhou`. */
  readonly regionId: string;
  /** `kms.<regionId>.aliyuncs.com` by default; a KMS instance has an endpoint of its own, `<instance>.cryptoservice.kms.aliyuncs.com`. */
  readonly endpoint?: string;
  /** Where the SDK gets credentials, as `@alicloud/credentials` makes it; in place of the three below. */
  readonly credential?: openApi.Config['credential'];
  readonly accessKeyId?: string;
  readonly accessKeySecret?: string;
  readonly securityToken?: string;
  /** The certificate of a KMS instance, PEM. */
  readonly ca?: string;
  /** `https` by default; `http` is for tests. */
  readonly protocol?: 'https' | 'http';
}

/** How long the SDK may wait; further attempts are not its affair. */
export interface CallLimits {
  readonly autoretry: boolean;
  readonly maxAttempts: number;
  readonly readTimeout: number;
  readonly connectTimeout: number;
}

/** The one method of the SDK's client that is used. */
export interface OpenApiCaller {
  callApi(params: openApi.Params, request: openApi.OpenApiRequest, runtime: CallLimits): Promise<object>;
}

export function connect(provider: string, options: AlibabaClientOptions): OpenApiCaller {
  const { regionId, endpoint = `kms.${regionId}.aliyuncs.com`, protocol = 'https' } = options;
  const Client = clientClass(provider);
  return new Client(new openApi.Config({ ...options, endpoint, protocol, signatureAlgorithm: 'ACS3-HMAC-SHA256' }));
}

/** The parameters go into the query, as those of the SDKs do. */
export function call(
  client: OpenApiCaller,
  action: string,
  query: Record<string, string>,
  withinMs: number,
): Promise<object> {
  const params = new openApi.Params({
    action,
    version: '2016-01-20',
    protocol: 'HTTPS',
    pathname: '/',
    method: 'POST',
    authType: 'AK',
    style: 'RPC',
    reqBodyType: 'formData',
    bodyType: 'json',
  });
  const limits = { autoretry: false, maxAttempts: 1, readTimeout: withinMs, connectTimeout: withinMs };
  return client.callApi(params, new openApi.OpenApiRequest({ query }), limits);
}

type ClientClass = new (config: openApi.Config) => OpenApiCaller;

/** The default export of a CommonJS module: from an ES module it stands one level deeper. */
function clientClass(provider: string): ClientClass {
  const exported: unknown = openApi.default;
  const inner =
    typeof exported === 'object' && exported !== null && 'default' in exported ? exported.default : exported;
  if (isClientClass(inner)) return inner;
  throw new KeyProviderError(
    'KEY_PROVIDER_INVALID',
    provider,
    'finds no client in @alicloud/openapi-client: install version 0.4 of it.',
  );
}

function isClientClass(value: unknown): value is ClientClass {
  return typeof value === 'function';
}

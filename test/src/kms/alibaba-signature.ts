import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { HttpRequest } from './faulty-server.js';

/*
 * Alibaba Cloud's signature version 3 (ACS3-HMAC-SHA256), from "V3 request structure and signature" in its SDK documentation, for the side that checks. Written
 * without a look at any SDK.
 */

const MOST_SKEW_MS = 15 * 60_000;

export function canonicalRequest(request: HttpRequest, signedHeaders: readonly string[]): string {
  const [path = '/', query = ''] = request.url.split(/\?(.*)/s);
  const parameters = [...new URLSearchParams(query)].map(([name, value]) => `${encode(name)}=${encode(value)}`);
  return [
    request.method,
    path,
    parameters.sort().join('&'),
    ...signedHeaders.map((name) => `${name}:${(request.headers[name] ?? '').trim()}`),
    '',
    signedHeaders.join(';'),
    request.headers['x-acs-content-sha256'] ?? '',
  ].join('\n');
}

export function signatureOf(secret: string, canonical: string): string {
  const digest = createHash('sha256').update(canonical).digest('hex');
  return createHmac('sha256', secret).update(`ACS3-HMAC-SHA256\n${digest}`).digest('hex');
}

/** What is wrong with the signature of a request, as the error code Alibaba Cloud gives; undefined when it is right. */
export function faultOfSignature(
  request: HttpRequest,
  secretOf: (accessKeyId: string) => string | undefined,
  now: number,
): string | undefined {
  const parts = /^ACS3-HMAC-SHA256 Credential=([^,]+),\s*SignedHeaders=([a-z0-9;-]+),\s*Signature=([0-9a-f]{64})$/.exec(
    request.headers['authorization'] ?? '',
  );
  if (parts === null) return 'IncompleteSignature';
  const [, accessKeyId = '', signed = '', signature = ''] = parts;
  const secret = secretOf(accessKeyId);
  if (secret === undefined) return 'InvalidAccessKeyId.NotFound';
  const date = Date.parse(request.headers['x-acs-date'] ?? '');
  if (!(Math.abs(date - now) <= MOST_SKEW_MS)) return 'InvalidTimeStamp.Expired';
  const names = signed.split(';');
  const mustBeSigned = Object.keys(request.headers).filter(
    (name) => name === 'host' || name === 'content-type' || name.startsWith('x-acs-'),
  );
  const isWhole = mustBeSigned.every((name) => names.includes(name)) && names.every((name) => name in request.headers);
  const isInOrder = [...names].sort().join(';') === signed;
  const body = createHash('sha256').update(request.body).digest('hex');
  if (!isWhole || !isInOrder || request.headers['x-acs-content-sha256'] !== body) return 'SignatureDoesNotMatch';
  const right = signatureOf(secret, canonicalRequest(request, names));
  return timingSafeEqual(Buffer.from(right), Buffer.from(signature)) ? undefined : 'SignatureDoesNotMatch';
}

/** Everything but the unreserved characters of RFC 3986 in percent and two capital digits. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { HttpRequest } from './faulty-server.js';

/*
 * AWS Signature Version 4, from the user guide of AWS IAM ("Create a signed AWS API request"), for the side that checks. Written without a look
 * at any SDK, so that one that signs and this one that checks agree for the reason that both keep to the document.
 */

export interface SigningScope {
  /** YYYYMMDD */
  readonly date: string;
  readonly region: string;
  readonly service: string;
}

const MOST_SKEW_MS = 5 * 60_000;

/** What the signature is over: method, path, query, the headers named, and the digest of the body, in the one form there is. */
export function canonicalRequest(request: HttpRequest, signedHeaders: readonly string[]): string {
  const [path = '/', query = ''] = request.url.split(/\?(.*)/s);
  const parameters = query
    .split('&')
    .filter((parameter) => parameter !== '')
    .map((parameter) => {
      const [name = '', value = ''] = parameter.split(/=(.*)/s);
      return `${encode(decodeURIComponent(name))}=${encode(decodeURIComponent(value))}`;
    });
  return [
    request.method,
    path.split('/').map(encode).join('/'),
    parameters.sort().join('&'),
    ...signedHeaders.map((name) => `${name}:${(request.headers[name] ?? '').trim().replaceAll(/ +/g, ' ')}`),
    '',
    signedHeaders.join(';'),
    sha256(request.body),
  ].join('\n');
}

export function stringToSign(amzDate: string, { date, region, service }: SigningScope, canonical: string): string {
  return ['AWS4-HMAC-SHA256', amzDate, `${date}/${region}/${service}/aws4_request`, sha256(canonical)].join('\n');
}

export function signingKey(secret: string, { date, region, service }: SigningScope): Buffer {
  return [date, region, service, 'aws4_request'].reduce<Buffer>(
    (key, part) => hmac(key, part),
    Buffer.from(`AWS4${secret}`),
  );
}

export function signatureOf(secret: string, scope: SigningScope, toSign: string): string {
  return hmac(signingKey(secret, scope), toSign).toString('hex');
}

/** What is wrong with the signature of a request, as the error code AWS gives; undefined when it is right. */
export function faultOfSignature(
  request: HttpRequest,
  secretOf: (accessKeyId: string) => string | undefined,
  expected: { readonly region: string; readonly service: string },
  now: number,
): string | undefined {
  const { authorization } = request.headers;
  if (authorization === undefined) return 'MissingAuthenticationToken';
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, *SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  const amzDate = request.headers['x-amz-date'] ?? '';
  if (parts === null || !/^\d{8}T\d{6}Z$/.test(amzDate)) return 'IncompleteSignature';
  const [, accessKeyId = '', date = '', region = '', service = '', signed = '', signature = ''] = parts;
  const secret = secretOf(accessKeyId);
  if (secret === undefined) return 'UnrecognizedClientException';
  const names = signed.split(';');
  const mustBeSigned = ['host', ...Object.keys(request.headers).filter((name) => name.startsWith('x-amz-'))];
  const isWhole = mustBeSigned.every((name) => names.includes(name)) && names.every((name) => name in request.headers);
  const isInOrder = [...names].sort().join(';') === signed;
  const isInScope = region === expected.region && service === expected.service && amzDate.startsWith(date);
  if (!isWhole || !isInOrder || !isInScope || Math.abs(timeOf(amzDate) - now) > MOST_SKEW_MS)
    return 'InvalidSignatureException';
  const scope = { date, region, service };
  const right = signatureOf(secret, scope, stringToSign(amzDate, scope, canonicalRequest(request, names)));
  return timingSafeEqual(Buffer.from(right), Buffer.from(signature)) ? undefined : 'InvalidSignatureException';
}

function timeOf(amzDate: string): number {
  return Date.parse(amzDate.replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z'));
}

/** Everything but the unreserved characters of RFC 3986 in percent and two capital digits. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

/**
 * The part of etcd's JSON messages this driver uses. 64-bit numbers come as strings; what is zero, false or empty does not come.
 * https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/
 */
export interface ResponseHeader {
  readonly revision?: string;
}

export interface KeyValue {
  readonly key: string;
  readonly mod_revision: string;
  readonly value?: string;
}

export interface RangeRequest {
  readonly key: string;
  readonly range_end?: string;
  readonly limit?: number;
  readonly keys_only?: boolean;
}

export interface RangeResponse {
  readonly header?: ResponseHeader;
  readonly kvs?: readonly KeyValue[];
}

export interface Compare {
  readonly key: string;
  readonly target: 'MOD';
  readonly result: 'EQUAL';
  readonly mod_revision: string;
}

export type RequestOp =
  | { readonly request_range: RangeRequest }
  | { readonly request_put: { readonly key: string; readonly value: string; readonly prev_kv?: boolean } }
  | { readonly request_delete_range: { readonly key: string } }
  | { readonly request_txn: TxnRequest };

export interface TxnRequest {
  readonly compare?: readonly Compare[];
  readonly success: readonly RequestOp[];
}

export interface ResponseOp {
  readonly response_range?: RangeResponse;
  readonly response_put?: { readonly prev_kv?: KeyValue };
  readonly response_txn?: TxnResponse;
}

export interface TxnResponse {
  readonly header?: ResponseHeader;
  readonly succeeded?: boolean;
  readonly responses?: readonly ResponseOp[];
}

export interface WatchResponse {
  readonly header?: ResponseHeader;
  readonly created?: boolean;
  readonly canceled?: boolean;
  readonly cancel_reason?: string;
  readonly events?: readonly { readonly kv?: KeyValue }[];
}

export interface ErrorResponse {
  readonly error?: unknown;
  readonly message?: unknown;
}

export function revisionIn(response: { readonly header?: ResponseHeader }): number {
  return Number(response.header?.revision ?? 0);
}

import type { StoreCommit } from '@nestjs-secrets/core';

/** As much of a secret's record as the checks need; see `SecretRecord` in core. */
export interface MirroredRecord {
  readonly promotion: number;
  readonly rolledBack: boolean;
  readonly rotation?: { readonly enabled?: boolean };
  readonly versions: readonly { readonly id: string; readonly sequence: number; readonly state: string }[];
  readonly stages: readonly (readonly [stage: string, versionId: string])[];
}

export interface MirroredObligation {
  readonly versionId: string;
  readonly promotion: number;
  readonly step: string;
  readonly deadline?: number;
}

/** As much of a rotation's journal as the checks need; see `RotationState` in core. */
export interface MirroredJournal {
  readonly active?: { readonly rotationId: string; readonly step: string; readonly versionId?: string };
  readonly obligations: readonly MirroredObligation[];
  readonly fence?: number;
  readonly lease?: { readonly holder: string; readonly token: number };
}

export interface MirroredAck {
  readonly promotion: number;
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

/** What stands in the store, kept parsed from the commits that took effect, so that a check costs no reading. */
export class StoreMirror {
  readonly records = new Map<string, MirroredRecord>();
  readonly journals = new Map<string, MirroredJournal>();
  /** By `<secret>:<instance>`. */
  readonly acks = new Map<string, MirroredAck>();
  /** The ids of instances with an entry. */
  readonly instances = new Set<string>();
  /** The keys of stored values. */
  readonly values = new Set<string>();

  apply(commit: StoreCommit): void {
    for (const { key, value } of commit.writes) {
      const slash = key.indexOf('/');
      const [kind, name] = [key.slice(0, slash), key.slice(slash + 1)];
      if (kind === 'secret') put(this.records, name, value);
      else if (kind === 'rotation') put(this.journals, name, value);
      else if (kind === 'ack') put(this.acks, name, value);
      else if (kind === 'instance') mark(this.instances, name, value);
      else if (kind === 'value') mark(this.values, name, value);
    }
  }

  current(secretName: string): string | undefined {
    return this.records.get(secretName)?.stages.find(([stage]) => stage === 'current')?.[1];
  }
}

function put<T>(map: Map<string, T>, name: string, value: Uint8Array | null): void {
  if (value === null) map.delete(name);
  else map.set(name, JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8')));
}

function mark(set: Set<string>, name: string, value: Uint8Array | null): void {
  if (value === null) set.delete(name);
  else set.add(name);
}

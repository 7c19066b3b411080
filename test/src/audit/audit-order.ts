/** What the writing process is told, as its only argument. */
export interface AuditOrder {
  readonly folder: string;
  /** Where checkpoints go that are out of reach. */
  readonly elsewhere: string;
  /** 32 bytes in hex. */
  readonly key: string;
  /** PKCS#8 in PEM. */
  readonly signingKey: string;
  readonly callers: number;
}

export const AUDIT_ORIGIN = 'kills.example.com/audit/1';

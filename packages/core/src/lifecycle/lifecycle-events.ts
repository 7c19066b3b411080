interface LifecycleEventBase {
  readonly secretName: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** What becomes of secrets and versions in time. Told once, in the instance that acted; nothing is replayed. Never carries a value. */
export type LifecycleEvent =
  /** A version that has a stage will give no value any more after `expiresAt`. */
  | (LifecycleEventBase & { readonly type: 'expiring'; readonly versionId: string; readonly expiresAt: number })
  | (LifecycleEventBase & { readonly type: 'expired'; readonly versionId: string; readonly expiresAt: number })
  /** The value of an old version is gone, its data key with it. */
  | (LifecycleEventBase & { readonly type: 'version-destroyed'; readonly versionId: string })
  | (LifecycleEventBase & { readonly type: 'deleted'; readonly purgeAt: number })
  | (LifecycleEventBase & { readonly type: 'restored' })
  /** The secret is gone with every version. */
  | (LifecycleEventBase & { readonly type: 'purged' })
  /** It should be gone, and waits. */
  | (LifecycleEventBase & { readonly type: 'purge-held'; readonly why: string })
  /** Something in the background did not work and is tried again. */
  | (LifecycleEventBase & { readonly type: 'failed'; readonly message: string });

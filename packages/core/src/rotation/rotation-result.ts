/** What a rotation came to. For consumers it is over at promotion; retiring the version before it goes on in the background. */
export interface RotationResult {
  readonly secretName: string;
  readonly rotationId: string;
  readonly versionId: string;
  readonly previousVersionId: string | undefined;
}

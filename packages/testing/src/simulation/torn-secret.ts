import { type DatabaseCredentials, type Secret, SECRET_LINK, secretLink } from '@nestjs-secrets/core';

/** A handle whose value has the user of one version and, for a while after each change, the password of the one before. */
export function tornSecret(secret: Secret<DatabaseCredentials>): Secret<DatabaseCredentials> {
  let { password } = secret.value;
  let reads = 0;
  return {
    name: secret.name,
    changes$: secret.changes$,
    refresh: () => secret.refresh(),
    get versionId() {
      return secret.versionId;
    },
    get value() {
      const { username } = secret.value;
      const torn = { username, password };
      reads += 1;
      if (reads % 2 === 0) ({ password } = secret.value);
      return torn;
    },
    [SECRET_LINK]: secretLink(secret),
  } as Secret<DatabaseCredentials>;
}

export {
  postgresAlternatingUsers,
  type PostgresRotator,
  type PostgresAlternatingUsersOptions,
} from './alternating-users.js';
export { postgresLease, type PostgresLeaseOptions, type PostgresLeaseRotator } from './lease.js';
export { postgresSingleUser, type PostgresSingleUserOptions } from './single-user.js';
export {
  PostgresTargetError,
  RoleMismatchError,
  RotatorOptionsError,
  type PostgresTargetErrorCode,
} from './postgres-target-errors.js';
export type { PostgresConnection } from './postgres-target.js';
export type { PostgresAdmin, PostgresProbe, PostgresRotatorOptions, ProbedServer } from './rotator-options.js';

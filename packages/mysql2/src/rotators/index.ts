export { RotatorOptionsError } from '@nestjs-secrets/core';
export { mysqlAlternatingUsers, type MysqlAlternatingUsersOptions } from './alternating-users.js';
export { mysqlSingleUser, type MysqlSingleUserOptions } from './single-user.js';
export { mysqlDualPassword, type MysqlDualPasswordOptions } from './dual-password.js';
export { MysqlTargetError, UserMismatchError, type MysqlTargetErrorCode } from './mysql-target-errors.js';
export type { MysqlConnection } from './mysql-target.js';
export type {
  MysqlAdmin,
  MysqlProbe,
  MysqlProbedServer,
  MysqlRotator,
  MysqlRotatorOptions,
} from './rotator-options.js';

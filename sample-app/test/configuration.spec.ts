import { describe, expect, it } from '@jest/globals';
import { parseConfiguration } from '../src/configuration.js';
import { DatabaseServer } from '../src/database/database-server.js';

describe('the configuration', () => {
  it('needs nothing', () => {
    expect(parseConfiguration({})).toEqual({
      port: 3000,
      databaseUrl: undefined,
      poolSize: 10,
      rotateEvery: '30d',
      rotationStrategy: 'alternating-users',
      roles: 2,
      dataDir: '.data',
      keyFile: '.keys/my-app.json',
    });
  });

  it('names every variable that does not fit, and shows none of them', () => {
    const wrong = {
      PORT: 'canary-1',
      DATABASE_URL: 'mysql://root:canary-2@host/db',
      ROTATE_EVERY: 'canary-3',
      ROTATION_STRATEGY: 'canary-4',
      ROLES: '1',
    };
    let message = '';
    try {
      parseConfiguration(wrong);
    } catch (error) {
      message = String(error);
    }
    for (const variable of Object.keys(wrong)) expect(message).toContain(variable);
    expect(message).not.toContain('canary');
  });
});

describe('a DATABASE_URL', () => {
  it('gives the administrator and where the database is, with credentials in neither the wrong place nor the wrong form', () => {
    const server = DatabaseServer.at('postgres://ad%40min:p%2Fw@db.example:6432/orders');
    expect(server.connection).toEqual({ host: 'db.example', port: 6432, database: 'orders' });
    expect(server.admin).toEqual({ username: 'ad@min', password: 'p/w' });
  });

  it('may ask for TLS', () => {
    expect(DatabaseServer.at('postgres://a:b@db.example/orders?ssl=true').connection.ssl).toBeTruthy();
  });

  it('is refused without a log-in, and when it cannot be read, without being shown', () => {
    expect(() => DatabaseServer.at('postgres://db.example/orders')).toThrow('ADMIN:PASSWORD');
    expect(() => DatabaseServer.at('postgres://admin:canary@db.example:port/orders')).toThrow(
      /^(?!.*canary).*cannot be read/,
    );
  });
});

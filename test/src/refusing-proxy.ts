import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';

/** A way to a server on which new connections can be made to fail, while those that are open go on. */
export interface RefusingProxy {
  readonly port: number;
  /** How many connections it has turned away. */
  readonly refused: number;
  refuse: boolean;
  stop(): Promise<void>;
}

export async function startRefusingProxy(target: { host: string; port: number }): Promise<RefusingProxy> {
  const sockets = new Set<Socket>();
  const state = { refuse: false, refused: 0 };
  const server = createServer((socket) => {
    if (state.refuse) {
      state.refused += 1;
      socket.destroy();
      return;
    }
    const upstream = connect(target.port, target.host);
    for (const one of [socket, upstream]) {
      sockets.add(one);
      one.on('error', () => undefined);
      one.on('close', () => sockets.delete(one));
    }
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return Object.assign(state, {
    port: address.port,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

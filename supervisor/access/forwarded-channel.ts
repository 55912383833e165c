import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { ChannelOutput, type KeyExchange } from './channel-output.ts';
import { closeChannel } from './close-channel.ts';

/**
 * Copies between a forwarded channel and a socket inside the sandbox, each direction with its own end, until both have
 * ended or one side is lost. What the socket has given before it was lost still goes to the client. `done` is called
 * once when all is over; the function that is returned ends it at once.
 */
export function serveForward(
  channel: ServerChannel,
  socket: Socket,
  client: { readonly connection: Duplex; readonly guard: KeyExchange },
  done: () => void,
): () => void {
  const output = new ChannelOutput(channel, client.connection, client.guard);
  let over = false;
  const end = (): void => {
    if (over) return;
    over = true;
    output.close();
    socket.destroy();
    closeChannel(channel);
    done();
  };
  channel.on('error', end).on('close', end);
  socket.allowHalfOpen = true;
  socket.setNoDelay(true);
  socket.on('error', () => undefined); // its close tells
  channel.pipe(socket);
  // Who reads no more lets the client write into nothing, not wait for ever.
  socket.once('close', () => {
    if (!over) channel.unpipe(socket).resume();
  });
  let given = false;
  const finish = (): void => {
    if (given && (socket.writableFinished || socket.destroyed)) end();
  };
  socket.once('finish', finish).once('close', finish);
  void give(socket, output).then(() => {
    given = true;
    if (channel.outgoing.state === 'open') channel.eof();
    finish();
  });
  return end;
}

/** Not ChannelOutput.copy: that destroys its source, which here may still be written to. */
async function give(socket: Socket, output: ChannelOutput): Promise<void> {
  socket.on('data', (chunk: Buffer) => {
    socket.pause();
    void output.write('output', chunk).then(() => socket.resume());
  });
  await new Promise<void>((resolve) => socket.once('end', resolve).once('close', () => resolve()));
  await output.write('output', Buffer.alloc(0));
}

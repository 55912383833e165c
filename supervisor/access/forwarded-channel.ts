import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { ChannelOutput } from './channel-output.ts';

/**
 * Copies between a forwarded channel and a socket inside the sandbox, each direction with its own end, until both have
 * ended or one side is lost. `done` is called once then.
 */
export function serveForward(
  channel: ServerChannel,
  socket: Socket,
  connection: Duplex,
  done: () => void,
): () => void {
  const output = new ChannelOutput(channel, connection);
  let over = false;
  const end = (): void => {
    if (over) return;
    over = true;
    output.close();
    socket.destroy();
    channel.end();
    channel.resume();
    done();
  };
  channel.on('error', end).on('close', end);
  socket.allowHalfOpen = true;
  socket.setNoDelay(true);
  socket.on('error', end).on('close', end);
  channel.pipe(socket);
  let sent = false;
  socket.once('finish', () => {
    if (sent) end();
  });
  void relay(socket, output).then(() => {
    sent = true;
    if (channel.outgoing.state === 'open') channel.eof();
    if (socket.writableFinished || socket.destroyed) end();
  });
  return end;
}

/** Not ChannelOutput.copy: that destroys its source, which here may still be written to. */
async function relay(socket: Socket, output: ChannelOutput): Promise<void> {
  socket.on('data', (chunk: Buffer) => {
    socket.pause();
    void output.write('output', chunk).then(() => socket.resume());
  });
  await new Promise<void>((resolve) => socket.once('end', resolve).once('close', () => resolve()));
  await output.write('output', Buffer.alloc(0));
}

import { GatewayClient } from './gateway-client.ts';
import type { Place } from './place.ts';

/** How long the sandbox may take for its own end. */
const GOODBYE_MS = 2_000;

/** Copies between this process's streams and the sandbox's SSH server: what OpenSSH's ProxyCommand does. */
export async function sshProxy({ gateway, sandbox }: Place): Promise<number> {
  const client = new GatewayClient(gateway);
  const { stdin, stdout } = process;
  const stream = await client.forward(sandbox, { $case: 'ssh', value: {} });
  let late: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      // Each side may be the first to go; OpenSSH says so by SIGHUP. To end at once would cut off what the sandbox is told.
      const leave = (): void => {
        if (late !== undefined) return;
        late = setTimeout(resolve, GOODBYE_MS);
        stdin.unpipe(stream);
        stream.unpipe(stdout);
        stream.resume();
        stream.end();
      };
      process.on('SIGHUP', leave);
      stdout.on('error', leave);
      stream.once('end', leave);
      stream.once('error', reject);
      stream.once('close', resolve);
      stdin.pipe(stream);
      stream.pipe(stdout);
    });
    return 0;
  } finally {
    clearTimeout(late);
    stdin.destroy();
    client.close();
  }
}

/** The supervisor with its way in on a TCP port, where the relays of a gateway would hand it their streams. */
import { createServer } from 'node:net';
import { parseCommandLine } from '../../supervisor/config.ts';
import { takeHandover } from '../../supervisor/handover.ts';
import { runSupervisor } from '../../supervisor/supervisor.ts';

const complain = (message: string): void => void process.stderr.write(`openshell-sandbox: ${message}\n`);

async function main(): Promise<number> {
  const handover = takeHandover();
  const command = parseCommandLine(process.argv.slice(2), process.env);
  if (!command.ok) throw command.error;
  if (!handover.ok) throw handover.error;
  if (command.value.kind !== 'run') throw new Error('only run');
  return runSupervisor(command.value.config, handover.value, complain, (access) => {
    createServer({ allowHalfOpen: true, noDelay: true }, (socket) => access.accept(socket)).listen(
      2222,
      '0.0.0.0',
      () => process.stdout.write('the way in is open\n'),
    );
  });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    complain(String(error));
    process.exit(70);
  },
);

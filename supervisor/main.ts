import { readFileSync } from 'node:fs';
import { runPolicyCommand } from './cli/policy-command.ts';
import { parseCommandLine } from './config.ts';
import { runDoctor } from './doctor.ts';
import { Fault } from './fault.ts';
import { takeHandover } from './handover.ts';
import { boundHeapGrowth } from './heap-growth.ts';
import { err, ok } from './result.ts';
import { runSupervisor } from './supervisor.ts';
import { VERSION } from './version.ts';

/** One line on standard error, as everything that ends the sandbox gets (issue: bad input). */
function complain(message: string): void {
  process.stderr.write(`openshell-sandbox: ${message.replaceAll(/[\r\n]+/g, ' ')}\n`);
}

/** `policy …`: needs no launcher, no container and no configuration. */
function policyCommand(argv: readonly string[]): number {
  return runPolicyCommand(argv, {
    read: (path) => {
      try {
        return ok(readFileSync(path === '-' ? 0 : path, 'utf8'));
      } catch (error) {
        return err(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
      }
    },
    out: (text) => void process.stdout.write(text),
    complain: (text) => void process.stderr.write(text),
  });
}

async function main(): Promise<number> {
  if (process.argv[2] === 'policy') return policyCommand(process.argv.slice(3));
  const handover = takeHandover();
  // The one secret among the variables comes by the pipe, because an environment can be looked at.
  const token = handover.ok ? handover.value.environment.get('OPENSHELL_SANDBOX_TOKEN') : undefined;
  const command = parseCommandLine(process.argv.slice(2), { ...process.env, OPENSHELL_SANDBOX_TOKEN: token });
  if (!command.ok) throw command.error;
  switch (command.value.kind) {
    case 'help':
      process.stdout.write(command.value.text);
      return 0;
    case 'version':
      process.stdout.write(`${VERSION}\n`);
      return 0;
    case 'doctor':
      return runDoctor(command.value.config, command.value.json);
    case 'run':
      if (!handover.ok) throw handover.error;
      boundHeapGrowth();
      return runSupervisor(command.value.config, handover.value, complain);
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const fault =
      error instanceof Fault
        ? error
        : new Fault('internal', `internal error: ${error instanceof Error ? error.message : String(error)}`);
    complain(fault.message);
    process.exit(fault.exitCode);
  },
);

import { parseCommandLine, readTextFile } from './config.ts';
import { runDoctor } from './doctor.ts';
import { Fault } from './fault.ts';
import { takeHandover } from './handover.ts';
import { describeFault } from './policy/fault.ts';
import { parsePolicyYaml } from './policy/yaml.ts';
import { runSupervisor } from './supervisor.ts';
import { VERSION } from './version.ts';

/** One line on standard error, as everything that ends the sandbox gets (issue: bad input). */
function complain(message: string): void {
  process.stderr.write(`openshell-sandbox: ${message.replaceAll(/[\r\n]+/g, ' ')}\n`);
}

async function main(): Promise<number> {
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
    case 'policy-check': {
      const text = readTextFile(command.value.file, 'policy check');
      if (!text.ok) throw text.error;
      const parsed = parsePolicyYaml(text.value);
      if (parsed.ok) {
        process.stdout.write(`${command.value.file}: valid\n`);
        return 0;
      }
      for (const fault of parsed.error) process.stdout.write(`${describeFault(fault)}\n`);
      throw new Fault(
        'policy',
        `${command.value.file} has ${parsed.error.length} fault${parsed.error.length === 1 ? '' : 's'}`,
      );
    }
    case 'doctor':
      return runDoctor(command.value.config, command.value.json);
    case 'run':
      if (!handover.ok) throw handover.error;
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

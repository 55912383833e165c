/** A proxy of its own process for the flood tests: prints its port, and for each line that it reads its memory and connections. */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ConnectionSlots, openFilesLimit, slotsFor } from '../../supervisor/egress/connection-slots.ts';
import { startProxy } from './proxy-fixture.ts';

const slots = new ConnectionSlots(slotsFor(openFilesLimit(readFileSync('/proc/self/limits', 'utf8'))));
const { proxy } = await startProxy({ slots, mainPid: () => process.ppid, observe: () => undefined });
console.log(`${proxy.port} ${slots.max}`);
for await (const _ of createInterface(process.stdin)) {
  const kib = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  console.log(`${kib} ${proxy.openConnections()}`);
}
process.exit(0);

import { isIPv4 } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ClientEnvironment, terminalName } from '../../supervisor/access/client-environment.ts';
import { judgeForward } from '../../supervisor/access/forward-target.ts';
import { PacketReader } from '../../supervisor/access/packet-reader.ts';
import { parseTerminalModes } from '../../supervisor/access/terminal-modes.ts';

const RESERVED = new Set([53, 1080, 3128]);

test.each([
  ['localhost', 8080, '127.0.0.1'],
  ['LocalHost', 8080, '127.0.0.1'],
  ['127.0.0.1', 1, '127.0.0.1'],
  ['127.9.8.7', 65_535, '127.9.8.7'],
  ['::1', 8080, '::1'],
  ['0:0:0:0:0:0:0:1', 8080, '::1'],
  ['::ffff:127.0.0.1', 8080, '127.0.0.1'],
])('%s:%i can be forwarded to', (host, port, plain) => {
  expect(judgeForward(host, port, RESERVED)).toEqual({ ok: true, value: { host: plain, port } });
});

test.each([
  ['10.0.0.1', 8080],
  ['0.0.0.0', 8080],
  ['::', 8080],
  ['::ffff:10.0.0.1', 8080],
  ['::1%lo', 8080],
  ['localhost.', 8080],
  ['metadata', 8080],
  ['127.1', 8080],
  ['127.64.0.5', 443],
  ['127.127.255.255', 443],
  ['::ffff:127.64.0.5', 443],
  ['127.0.0.1', 3128],
  ['127.0.0.2', 3128],
  ['::1', 53],
  ['127.0.0.1', 0],
  ['127.0.0.1', 65_536],
])('%s:%i cannot', (host, port) => {
  expect(judgeForward(host, port, RESERVED).ok).toBe(false);
});

test('whatever a client names, what comes out is a loopback address outside the synthetic ones', () => {
  const hosts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.ipV4Extended(), fc.domain(), fc.string());
  fc.assert(
    fc.property(hosts, fc.integer({ min: -1, max: 70_000 }), (host, port) => {
      const judged = judgeForward(host, port, RESERVED);
      if (!judged.ok) return;
      const { host: address } = judged.value;
      expect(RESERVED.has(port)).toBe(false);
      expect(address === '::1' || (isIPv4(address) && address.startsWith('127.'))).toBe(true);
      if (isIPv4(address)) expect(Number(address.split('.')[1]) >> 6).not.toBe(1);
    }),
  );
});

test('variables are taken by a list, and in a bounded number', () => {
  const environment = new ClientEnvironment();
  for (const name of ['LD_PRELOAD', 'BASH_ENV', 'ENV', 'PATH', 'HOME', 'http_proxy', 'NODE_OPTIONS', 'LC_'])
    expect(environment.set(name, 'x')).toBe(false);
  expect(environment.set('LANG', 'a\0b')).toBe(false);
  expect(environment.set('LANG', 'x'.repeat(257))).toBe(false);
  expect(environment.set('OPENSHELL_MAIN_READ_ONLY', '1')).toBe(true);
  expect(environment.readOnly).toBe(true);
  for (let i = 0; i < 100; i++)
    environment.set(`LC_${'ABCDEFGHIJ'[i % 10]}${'ABCDEFGHIJ'[(i / 10) | 0]}`, 'C');
  expect(environment.variables.size).toBe(32);
  expect(environment.set('LC_AA', 'POSIX')).toBe(true);
});

test('a terminal has a name that is one', () => {
  expect(terminalName('xterm-256color')).toBe('xterm-256color');
  for (const name of ['', '../x', 'a\n', 'x'.repeat(65)]) expect(terminalName(name)).toBe('vt100');
});

test('terminal modes are read from the first byte on, and whatever else comes is no fault', () => {
  const bytes = Buffer.from([129, 0, 0, 0x96, 0, 3, 0, 0, 0, 0x7f, 42, 0, 0, 0, 1, 99, 0, 0, 0, 1, 0, 1, 2]);
  const modes = { TTY_OP_OSPEED: 38_400, VERASE: 0x7f, IUTF8: 1 };
  expect(parseTerminalModes(bytes)).toEqual(modes);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(bytes.length), (noise, cut) => {
      parseTerminalModes(Buffer.from(noise));
      parseTerminalModes(Buffer.concat([bytes.subarray(0, cut), noise]));
    }),
  );
});

test('the fields of a packet are read one after the other, and none past its end', () => {
  const whole = Buffer.from([98, 0, 0, 0, 7, 0, 0, 0, 2, 0x68, 0x69, 1, 0, 0, 0, 9]);
  const reader = new PacketReader(whole, 1);
  expect([reader.uint32(), reader.text(), reader.bool(), reader.uint32(), reader.uint32()]).toEqual([
    ...[7, 'hi', true, 9, undefined],
  ]);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.array(fc.constantFrom('u', 's', 'b')),
      (bytes, asked) => {
        const noise = new PacketReader(Buffer.from(bytes), 0);
        const read = asked.map((kind) =>
          kind === 'u' ? noise.uint32() : kind === 's' ? noise.string() : noise.bool(),
        );
        // Behind the first field that is not whole there is none.
        const broken = read.indexOf(undefined);
        if (broken >= 0) expect(read.slice(broken).every((one) => one === undefined)).toBe(true);
      },
    ),
  );
});

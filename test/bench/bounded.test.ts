import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { lineClient, until, within } from '../../scripts/bench/bounded.ts';

const client = (script: string) =>
  lineClient('the client', spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'pipe', 'pipe'] }));
const never = new Promise<never>(() => undefined);

test('a wait that ends passes its value on', async () => {
  expect(await within(60_000, 'something', Promise.resolve(7))).toBe(7);
  let asked = 0;
  const ready = () => {
    asked += 1;
    return asked === 3 ? 'yes' : undefined;
  };
  expect(await until(60_000, 'something', ready, 1)).toBe('yes');
});

test('a wait that does not end rejects and names what it waited for', async () => {
  await expect(within(20, 'the client', never)).rejects.toThrow('the client: no end after 0.02 s');
  await expect(until(20, 'the gateway', () => undefined, 1)).rejects.toThrow(
    'the gateway: not so after 0.02 s',
  );
});

test('a client answers line by line', async () => {
  const asked = client('while read -r line; do echo "got $line"; done');
  expect(await asked.ask('one', 60_000)).toBe('got one');
  expect(await asked.ask('two', 60_000)).toBe('got two');
});

test('a client that dies while it is asked fails the question with its last words', async () => {
  const dying = client('read -r line; echo "no such host" >&2; exit 3');
  await expect(dying.ask('one', 60_000)).rejects.toThrow('the client ended with code 3: no such host');
  await expect(dying.ask('two', 60_000)).rejects.toThrow('the client ended with code 3');
});

test('a client that is killed, or cannot be started, fails the question', async () => {
  await expect(client('kill -9 $$').ask('one', 60_000)).rejects.toThrow('the client ended by SIGKILL');
  const absent = lineClient('nobody', spawn('/nonexistent/program', { stdio: ['pipe', 'pipe', 'pipe'] }));
  await expect(absent.ask('one', 60_000)).rejects.toThrow('nobody ended because it could not be started');
});

test('a client that hangs fails the question when its time is up', async () => {
  const child = spawn('/bin/sleep', ['60'], { stdio: ['pipe', 'pipe', 'pipe'] });
  await expect(lineClient('the sleeper', child).ask('one', 50)).rejects.toThrow('no end after 0.05 s');
  child.kill('SIGKILL');
});

test('a wait whose question itself hangs rejects too', async () => {
  await expect(until(20, 'the gateway', () => never, 1)).rejects.toThrow('the gateway: no end after 0.02 s');
});

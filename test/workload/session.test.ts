import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { err, ok } from '../../supervisor/result.ts';
import type { ProcessEnd } from '../../supervisor/workload/main-process.ts';
import {
  type SessionEvent,
  type SessionFailure,
  type SessionProcess,
  Sessions,
} from '../../supervisor/workload/session.ts';
import {
  parseSession,
  type SessionMember,
  SessionMembers,
} from '../../supervisor/workload/session-members.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const REQUEST = { argv: ['/bin/bash', '-lc', 'true'], variables: new Map(), terminal: undefined };

/** Sessions whose processes do nothing by themselves. */
function fixture(limit = 2, failure?: SessionFailure, before: () => void = () => undefined) {
  const clock = new VirtualClock();
  const events: SessionEvent[] = [];
  const sent: string[] = [];
  const processes: { readonly end: (end: ProcessEnd) => void; drained: boolean; hungUp: boolean }[] = [];
  let members: readonly SessionMember[] = [];
  const sessions = new Sessions({
    clock,
    limit,
    members: () => members,
    kill: (pid, signal) => void sent.push(`${signal} ${pid}`),
    observe: (event) => void events.push(event),
    start: async () => {
      before();
      let end: (end: ProcessEnd) => void = () => undefined;
      const exited = new Promise<ProcessEnd>((resolve) => {
        end = resolve;
      });
      const state = { end, drained: false, hungUp: false };
      processes.push(state);
      return ok<SessionProcess>({
        pid: 40 + processes.length,
        started: Promise.resolve(failure === undefined ? ok({ warnings: [] }) : err(failure)),
        exited,
        input: new PassThrough(),
        output: new PassThrough(),
        errors: undefined,
        signal: (signal) => void sent.push(`${signal} group`),
        resize: () => undefined,
        drain: () => {
          state.drained = true;
        },
        hangUp: () => {
          state.hungUp = true;
        },
      });
    },
  });
  return {
    clock,
    events,
    sent,
    processes,
    sessions,
    has: (...now: SessionMember[]) => {
      members = now;
    },
  };
}

const member = (pid: number, group: number, ignoresHangup = false): SessionMember => ({
  pid,
  group,
  ignoresHangup,
});

test('no more than the limit run at once, and the next is told which setting to raise', async () => {
  const { sessions, processes, events } = fixture();
  const first = await sessions.start(REQUEST);
  expect([first.ok, (await sessions.start(REQUEST)).ok, sessions.open]).toEqual([true, true, 2]);
  const third = await sessions.start(REQUEST);
  expect(third).toMatchObject({
    ok: false,
    error: { code: 75, message: expect.stringContaining('--max-sessions') },
  });
  processes[0]?.end({ kind: 'code', code: 0 });
  await expect.poll(() => sessions.open).toBe(1);
  expect((await sessions.start(REQUEST)).ok).toBe(true);
  expect(events.map(({ kind }) => kind)).toEqual(['started', 'started', 'refused', 'ended', 'started']);
});

test('what does not start gives its place back, with its reason', async () => {
  const { sessions, processes } = fixture(1, { code: 127, message: '/bin/bash: no such program' });
  for (let i = 0; i < 3; i++)
    expect(await sessions.start(REQUEST)).toMatchObject({ ok: false, error: { code: 127 } });
  expect([sessions.open, processes.every(({ hungUp }) => hungUp)]).toEqual([0, true]);
  const nul = await sessions.start({ ...REQUEST, argv: ['/bin/sh', '-c', 'a\0b'] });
  expect([nul.ok, processes.length]).toEqual([false, 3]);
});

test('a start that fails in any other way gives its place back, too', async () => {
  const { sessions, events } = fixture(1, undefined, () => {
    throw new Error('spawn EMFILE');
  });
  for (let i = 0; i < 3; i++)
    expect(await sessions.start(REQUEST)).toMatchObject({
      ok: false,
      error: { code: 70, message: expect.stringContaining('EMFILE') },
    });
  expect([sessions.open, events.map(({ kind }) => kind)]).toEqual([0, ['refused', 'refused', 'refused']]);
});

test('who is left by its caller is hung up, then ended, then killed, with all of its session but nohup jobs', async () => {
  const { sessions, clock, sent, processes, has } = fixture();
  const session = await sessions.start(REQUEST);
  if (!session.ok) throw new Error('it did not start');
  // The leader, a child in its group that ignores the hang-up, a job, and a job of nohup.
  const everybody = [member(41, 41), member(50, 41, true), member(60, 60), member(70, 70, true)];
  has(...everybody);
  session.value.end();
  session.value.end();
  expect(processes[0]?.hungUp).toBe(true);
  expect(sent.splice(0)).toEqual(['SIGHUP group', 'SIGHUP 41', 'SIGHUP 50', 'SIGHUP 60']);
  clock.run(2_499);
  expect(sent).toEqual([]);
  clock.run(1);
  expect(sent.splice(0)).toEqual(['SIGTERM 41', 'SIGTERM 50', 'SIGTERM 60']);
  has(member(50, 41, true), member(70, 70, true));
  clock.run(2_500);
  expect(sent.splice(0)).toEqual(['SIGKILL 50']);
  clock.run(60_000);
  expect(sent).toEqual([]);
});

test('another session that got the number of one that was hung up is none of it', async () => {
  const { sessions, clock, sent, processes, has } = fixture();
  const session = await sessions.start(REQUEST);
  if (!session.ok) throw new Error('it did not start');
  has(member(41, 41), member(60, 60));
  session.value.end();
  expect(sent.splice(0)).toEqual(['SIGHUP group', 'SIGHUP 41', 'SIGHUP 60']);
  processes[0]?.end({ kind: 'signal', signal: 'SIGHUP' });
  await session.value.exited;
  has(member(41, 41), member(80, 80));
  clock.run(60_000);
  expect(sent).toEqual([]);
});

test('what a program leaves behind when it ends by itself is left alone', async () => {
  const { sessions, sent, processes, clock } = fixture();
  const session = await sessions.start(REQUEST);
  if (!session.ok) throw new Error('it did not start');
  processes[0]?.end({ kind: 'signal', signal: 'SIGKILL' });
  expect(await session.value.exited).toEqual({ kind: 'signal', signal: 'SIGKILL' });
  session.value.end();
  session.value.signal('SIGTERM');
  clock.run(60_000);
  expect([sent, processes[0]?.drained]).toEqual([[], true]);
});

test('the session of a process is read whatever its name holds', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(), fc.nat(), (name, group, session) => {
      expect(parseSession(`12 (${name}) S 1 ${group} ${session} 0 -1`)).toEqual({ group, session });
      expect(parseSession(`12 (${name}) Z 1 ${group} ${session} 0 -1`)).toBeUndefined();
      parseSession(name);
    }),
  );
});

test('all sessions that end at once are looked for in one pass, and later ones in another', async () => {
  const proc = mkdtempSync(join(tmpdir(), 'session-members-'));
  try {
    const put = (pid: number, group: number, session: number, ignored = '0000000000000000'): void => {
      mkdirSync(join(proc, String(pid)));
      writeFileSync(join(proc, String(pid), 'stat'), `${pid} (a) S 1 ${group} ${session} 0 -1`);
      writeFileSync(join(proc, String(pid), 'status'), `Name:\ta\nSigIgn:\t${ignored}\n`);
    };
    mkdirSync(join(proc, 'self'));
    put(41, 41, 41);
    put(50, 50, 41, '0000000000000001');
    put(60, 60, 60);
    const members = new SessionMembers(proc);
    expect(members.of(41)).toEqual([member(41, 41), member(50, 50, true)]);
    put(70, 60, 60);
    expect([members.of(60), members.of(61)]).toEqual([[member(60, 60)], []]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(members.of(60)).toEqual([member(60, 60), member(70, 60)]);
  } finally {
    rmSync(proc, { recursive: true });
  }
});

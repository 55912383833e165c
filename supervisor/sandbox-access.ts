import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { AccessServer } from './access/access-server.ts';
import type { SubsystemStarter } from './access/session-channel.ts';
import { reportAccess } from './access-report.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { type ConfinedSessionsOptions, confinedSessions, connectInside } from './confined-sessions.ts';
import type { Anchor } from './confinement/anchor.ts';
import { METADATA_PORT } from './egress/metadata/google-metadata.ts';
import type { Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { RepeatLimiter } from './observability/repeat-limiter.ts';
import { containerExitCode } from './workload/main-process.ts';
import { Sessions } from './workload/session.ts';
import { SessionMembers } from './workload/session-members.ts';

export interface SandboxAccessOptions extends Omit<ConfinedSessionsOptions, 'launcher' | 'cwd'> {
  readonly config: Pick<
    Config,
    'launcher' | 'workdir' | 'maxSessions' | 'proxyPort' | 'socksPort' | 'health'
  >;
  readonly clock: Clock;
  readonly anchor: Anchor | undefined;
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly limiter: RepeatLimiter;
  readonly subsystems: ReadonlyMap<string, SubsystemStarter>;
}

/** Where names are answered; nothing of the workload's can be there. */
const DNS_PORT = 53;

/** The way in: confined sessions behind an SSH server that relays hand their streams to. Nothing is started yet. */
export function sandboxAccess(options: SandboxAccessOptions): AccessServer {
  const { config, clock, anchor, logging, metrics } = options;
  const log = logging.logger('access');
  const members = new SessionMembers();
  const sessions = new Sessions({
    clock,
    limit: config.maxSessions,
    start: confinedSessions({
      ...options,
      launcher: config.launcher,
      cwd: config.workdir,
      besideMain: true,
      // People end what hangs. Where init is not PID 1, processes of other containers could be in sight.
      signalsOthers: process.ppid === 1,
    }),
    members: (leader) => members.of(leader),
    kill(pid, signal) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended meanwhile
      }
    },
    observe(event) {
      metrics.sessionsOpen.set(sessions.open);
      if (event.kind === 'refused') {
        metrics.sessions.inc({ result: 'refused' });
        log.warn(`a session was refused: ${event.message}`);
        return;
      }
      // The name alone: gateways put variables, and people put secrets, into the command.
      const { pid } = event;
      const name = basename(event.name);
      if (event.kind === 'started') metrics.sessions.inc({ result: 'started' });
      logging.ocsf({
        class: 'process',
        activity: event.kind === 'started' ? 'LAUNCH' : 'TERMINATE',
        severity: 'info',
        name,
        pid,
        exitCode: event.kind === 'started' ? undefined : containerExitCode(event.end),
      });
    },
  });
  const inside = anchor === undefined ? [config.health?.port] : [];
  return new AccessServer({
    clock,
    open: (request) => sessions.start(request),
    shell: () => (existsSync('/bin/bash') ? '/bin/bash' : '/bin/sh'),
    connect: connectInside(anchor),
    reservedPorts: new Set(
      [config.proxyPort, config.socksPort.port, DNS_PORT, METADATA_PORT, ...inside].filter(
        (port) => port !== undefined,
      ),
    ),
    subsystems: options.subsystems,
    observe: reportAccess(options),
  });
}

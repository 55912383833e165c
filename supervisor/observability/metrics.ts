import { readdirSync, readFileSync } from 'node:fs';
import { Counter, Gauge, Registry } from 'prom-client';

const PREFIX = 'openshell_supervisor_';

/** The supervisor's metrics. Every label has a fixed, small set of values. */
export function createMetrics(version: string) {
  const registry = new Registry();
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [registry] });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [registry] });

  gauge('build_info', 'Always 1; the label holds the version.', ['version']).set({ version }, 1);
  const sampled = {
    private: gauge('private_memory_bytes', 'RssAnon of the supervisor.'),
    descriptors: gauge('open_descriptors', 'Open file descriptors of the supervisor.'),
  };
  return {
    registry,
    sessionUp: gauge('session_established', '1 while the gateway session stands.'),
    sessionDials: counter('session_dials_total', 'Attempts to open the gateway session.'),
    offlineSeconds: gauge('offline_seconds', 'How long the gateway has been away; 0 while a session stands.'),
    heartbeats: counter('heartbeats_sent_total', 'Heartbeats sent to the gateway.'),
    decisions: counter('egress_decisions_total', 'Connections of the workload by outcome.', ['decision']),
    denials: counter('egress_denials_total', 'Denied connections by stage.', ['stage']),
    requests: counter('egress_requests_total', 'Inspected requests of the workload by outcome.', ['outcome']),
    relays: counter('relays_total', 'Relays that the gateway asked for.', ['outcome']),
    relaysOpen: gauge('relays_open', 'Relays that are open, or whose target is being connected.'),
    relayBytes: counter('relay_bytes_total', 'Bytes through relays, seen from the sandbox.', ['direction']),
    inferenceCalls: counter('inference_calls_total', 'Calls of inference.local by outcome.', ['outcome']),
    middlewareEvaluations: counter('egress_middleware_evaluations_total', 'Middlewares asked, by outcome.', [
      'operation',
      'outcome',
    ]),
    openConnections: gauge('egress_open_connections', 'Connections to the proxy that are open.'),
    bytes: counter('egress_bytes_total', 'Bytes relayed, seen from the workload.', ['direction']),
    policyGeneration: gauge('policy_generation', 'Counter of the policy in force.'),
    policyLoads: counter('policy_loads_total', 'Policies taken or refused.', ['result']),
    enforcement: gauge('enforcement', '1 where enforced, in full or in part, 0 where not.', [
      'aspect',
      'mechanism',
      'level',
    ]),
    mainProcess: gauge('main_process_running', '1 while the main process runs.'),
    sessionsOpen: gauge('access_open_sessions', 'Sessions that people and editors have running.'),
    sessions: counter('access_sessions_total', 'Sessions by outcome.', ['result']),
    accessConnections: gauge('access_open_connections', 'SSH connections that are open.'),
    accessForwards: gauge('access_open_forwards', 'Connections that SSH clients have forwarded.'),
    bufferedBytes: gauge('buffer_bytes', 'Bytes waiting for the gateway.'),
    bufferLost: gauge('buffer_lost_records', 'Records that the bound of the buffer forced out.', ['class']),
    suppressedEvents: counter(
      'events_suppressed_total',
      'Security events that repeated others and were only counted.',
    ),
    logLinesDropped: gauge('log_lines_dropped', 'Lines that standard output did not take.'),
    /** The exposition text, with what is sampled from /proc at the same moment. */
    async text(): Promise<string> {
      const status = readFileSync('/proc/self/status', 'latin1');
      const kib = /^RssAnon:\s+(\d+) kB/m.exec(status)?.[1];
      if (kib !== undefined) sampled.private.set(Number(kib) * 1024);
      sampled.descriptors.set(readdirSync('/proc/self/fd').length);
      return registry.metrics();
    },
  };
}

export type Metrics = ReturnType<typeof createMetrics>;

import type { BufferStats } from './buffer/record-buffer.ts';
import type { Metrics } from './observability/metrics.ts';
import type { OfflineState } from './offline-grace.ts';

/** What is asked when somebody reads the metrics, because nobody tells when it changes. */
export interface MetricsReadings {
  readonly buffer: BufferStats;
  readonly offline: OfflineState;
  readonly logLinesDropped: number;
  readonly openConnections: number;
  readonly accessConnections: number;
  readonly accessForwards: number;
  readonly relays: number;
}

/** The text that /metrics answers with. */
export function metricsPage(metrics: Metrics, now: MetricsReadings): Promise<string> {
  metrics.bufferedBytes.set(now.buffer.bytes);
  for (const [name, { lost }] of Object.entries(now.buffer.classes))
    metrics.bufferLost.set({ class: name }, lost);
  const { offline } = now;
  metrics.offlineSeconds.set(offline.kind === 'online' ? 0 : Math.round(offline.offlineMs / 1000));
  metrics.logLinesDropped.set(now.logLinesDropped);
  metrics.openConnections.set(now.openConnections);
  metrics.accessConnections.set(now.accessConnections);
  metrics.accessForwards.set(now.accessForwards);
  metrics.relaysOpen.set(now.relays);
  return metrics.text();
}

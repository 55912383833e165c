import type { RelayEvent } from './gateway/relay/relays.ts';
import type { Logger } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';

/** Tells of relays in the log and in metrics. */
export const reportRelay =
  (metrics: Metrics, log: Logger) =>
  (event: RelayEvent): void => {
    if (event.kind === 'opened') metrics.relays.inc({ outcome: 'opened' });
    if (event.kind === 'refused') {
      metrics.relays.inc({ outcome: 'refused' });
      log.warn(`a relay was refused: ${event.reason}`, { channel: event.channelId });
    }
    if (event.kind !== 'closed') return;
    const { channelId: channel, reason, sentBytes, receivedBytes, durationMs } = event;
    metrics.relayBytes.inc({ direction: 'out' }, sentBytes);
    metrics.relayBytes.inc({ direction: 'in' }, receivedBytes);
    log.info(`a relay ended${reason === undefined ? '' : `: ${reason}`}`, {
      channel,
      sentBytes,
      receivedBytes,
      durationMs,
    });
  };

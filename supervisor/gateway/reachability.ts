import { readFileSync } from 'node:fs';
import { OpenShellDefinition, ServiceStatus } from '../../proto/generated/openshell/v1/openshell.ts';
import { systemClock } from '../clock.ts';
import { Fault } from '../fault.ts';
import type { Connection } from '../rpc/connection.ts';
import { describeCallError, exchange } from './channel.ts';
import { dial } from './dial.ts';
import { endpointOf, type ResolveHost } from './endpoint.ts';
import type { ReadSecret, TlsFiles } from './tls.ts';

const TIMEOUT_MS = 5_000;

/** Asks the gateway for its health, at most 5 s once it is connected, without a token. */
export async function probeGateway(
  urls: URL | readonly URL[],
  tls: TlsFiles,
  resolve: ResolveHost,
  readSecret?: ReadSecret,
): Promise<{ readonly reachable: boolean; readonly detail: string }> {
  let connection: Connection | undefined;
  try {
    connection = await dial({
      endpoints: (urls instanceof URL ? [urls] : urls).map(endpointOf),
      tls,
      readSecret: readSecret ?? readFileSync,
      resolve,
      clock: systemClock,
      random: Math.random,
    });
    const health = await exchange(connection, OpenShellDefinition.methods.health, [{}], '', TIMEOUT_MS);
    const well = health.status === ServiceStatus.SERVICE_STATUS_HEALTHY;
    return { reachable: true, detail: `${well ? 'healthy' : 'not healthy'}, version ${health.version}` };
  } catch (error) {
    return { reachable: false, detail: error instanceof Fault ? error.message : describeCallError(error) };
  } finally {
    connection?.destroy('asked');
  }
}

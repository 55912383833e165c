import { ServiceStatus } from '../../proto/generated/openshell/v1/openshell.ts';
import { describeCallError, openClient, unary } from './channel.ts';
import { endpointOf, type ResolveHost, resolveTarget } from './endpoint.ts';
import { secureCredentials, type TlsFiles } from './tls.ts';

/** Asks the gateway for its health, at most 5 s, without a token. */
export async function probeGateway(
  endpoint: URL,
  tls: TlsFiles,
  resolve: ResolveHost,
): Promise<{ readonly reachable: boolean; readonly detail: string }> {
  const place = endpointOf(endpoint);
  const target = await resolveTarget(place, resolve, Math.random);
  if (!target.ok) return { reachable: false, detail: target.error.message };
  const secure = place.secure ? secureCredentials(tls) : undefined;
  if (secure !== undefined && !secure.ok) return { reachable: false, detail: secure.error.message };
  const client = openClient(
    target.value,
    secure?.value,
    `${place.host}:${place.port}`,
    tls.serverName ?? place.host,
  );
  try {
    const health = await unary(client.health.bind(client), {}, '', 5_000);
    const well = health.status === ServiceStatus.SERVICE_STATUS_HEALTHY;
    return { reachable: true, detail: `${well ? 'healthy' : 'not healthy'}, version ${health.version}` };
  } catch (error) {
    return { reachable: false, detail: describeCallError(error) };
  } finally {
    client.close();
  }
}

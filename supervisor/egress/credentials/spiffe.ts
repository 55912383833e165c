import { SpiffeWorkloadAPIDefinition } from '../../../proto/generated/spiffe/workload/workload.ts';
import type { Clock } from '../../clock.ts';
import { Secret } from '../../observability/secret.ts';
import { err, ok, type Result } from '../../result.ts';
import { openConnection } from '../../rpc/connection.ts';
import { describeCallError } from '../../rpc/status.ts';
import { callOnce } from '../../rpc/unary.ts';

const CALL_MS = 10_000;
const MAX_ANSWER_BYTES = 64 * 1024;
const PATH = '/SpiffeWorkloadAPI/FetchJWTSVID';

/**
 * Asks the SPIFFE Workload API on a Unix socket who this sandbox is, as a JWT for one audience (SPIFFE Workload API, 6.2.1).
 * A connection for each call: they are rare, and the agent attests whoever connects. 10 s in all.
 */
export function fetchJwtSvid(
  socketPath: string | undefined,
  clock: Clock,
): (audience: string) => Promise<Result<Secret, string>> {
  return async (audience) => {
    if (socketPath === undefined)
      return err('there is no SPIFFE socket: set OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET');
    try {
      const connection = await openConnection(
        {
          address: '',
          port: 0,
          socketPath,
          authority: 'localhost',
          tls: undefined,
          // Without it an agent takes the call for one that a web page could have made.
          metadata: { 'workload.spiffe.io': 'true' },
        },
        {
          clock,
          connectTimeoutMs: CALL_MS,
          keepaliveMs: CALL_MS,
          keepaliveTimeoutMs: CALL_MS,
          maxMessageBytes: MAX_ANSWER_BYTES,
        },
      );
      try {
        const method = SpiffeWorkloadAPIDefinition.methods.fetchJWTSVID;
        const request = { audience: [audience], spiffeId: '' };
        const { svids } = await callOnce(connection, method, [request], {
          path: PATH,
          token: '',
          timeoutMs: CALL_MS,
        });
        const svid = svids[0]?.svid ?? '';
        return svid === '' ? err('the SPIFFE agent gives this sandbox no identity') : ok(new Secret(svid));
      } finally {
        connection.destroy('done');
      }
    } catch (error) {
      return err(`the SPIFFE agent: ${describeCallError(error)}`);
    }
  };
}

import { SubmitPolicyAnalysisRequest } from '../../proto/generated/openshell/v1/openshell.ts';
import type { BufferRecord, RecordClass } from '../../supervisor/buffer/record.ts';

/** One of each kind, with the class it is kept in. */
export const KINDS: readonly (readonly [RecordClass, BufferRecord])[] = [
  [
    'logs',
    { kind: 'log', at: 1, level: 'INFO', target: 't', message: 'ünï \u0000 \ud800 "', fields: { a: 'b' } },
  ],
  ['audit', { kind: 'event', at: 2, message: 'NET:OPEN [INFO] DENIED curl(7) -> a.example:443' }],
  ['status', { kind: 'policy-status', at: 3, version: 4, loaded: false, error: 'no' }],
  ['status', { kind: 'exit', at: 4, instanceId: 'run-1', exitCode: -3 }],
  [
    'audit',
    {
      kind: 'denials',
      at: 5,
      request: SubmitPolicyAnalysisRequest.fromPartial({
        analysisMode: 'mechanistic',
        name: 'sb',
        workspace: 'w',
        summaries: [{ host: 'a.example', port: 443, count: 3, lastSeenMs: 1_700_000_000_000n }],
      }),
    },
  ],
  ['samples', { kind: 'sample', at: 6, name: 'memory', values: { rss: '1' } }],
];

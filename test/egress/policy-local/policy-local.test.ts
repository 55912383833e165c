import { request } from 'node:http';
import { describe, expect, test } from 'vitest';
import type { NetworkPolicyRule } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { PolicyChunk } from '../../../proto/generated/openshell/v1/openshell.ts';
import { LocalServices } from '../../../supervisor/egress/local-services.ts';
import { DenialLines } from '../../../supervisor/egress/policy-local/denial-lines.ts';
import {
  type GatewayFailure,
  PolicyLocal,
  type PolicyLocalOptions,
  type ProposalEvent,
} from '../../../supervisor/egress/policy-local/policy-local.ts';
import { err, ok, type Result } from '../../../supervisor/result.ts';
import { VirtualClock } from '../../gateway/virtual-clock.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { startProxy } from '../proxy-fixture.ts';

const undo = undoAfterEach();

const PROPOSAL = JSON.stringify({
  operations: [
    {
      addRule: {
        rule: { endpoints: [{ host: 'api.test', port: 443 }], binaries: [{ path: '/usr/bin/curl' }] },
      },
    },
  ],
});

/** Stands still until told, and counts what waits for it. */
class SteppedClock extends VirtualClock {
  planned = 0;
  override after(ms: number, run: () => void): () => void {
    this.planned += 1;
    return super.after(ms, run);
  }
  /** Second after second, with what each one sets off. */
  async advance(seconds: number): Promise<void> {
    for (let n = 0; n < seconds * 5; n += 1) {
      this.run(200);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** policy.local behind a real proxy, and a gateway of the test's. */
async function start(options: Partial<PolicyLocalOptions> = {}) {
  const clock = new SteppedClock();
  const events: ProposalEvent[] = [];
  const denials = new DenialLines();
  let chunks: readonly PolicyChunk[] = [];
  let failure: GatewayFailure | undefined;
  const answer = <T>(value: T): Result<T, GatewayFailure> =>
    failure === undefined ? ok(value) : err(failure);
  const service = new PolicyLocal({
    clock,
    enabled: () => true,
    policyYaml: () => 'version: 1\n',
    denials,
    skill: '# how\n',
    covers: () => false,
    submit: async (proposed) => {
      chunks = proposed.map((chunk) => ({ ...chunk, id: 'id-1' }));
      return answer({
        acceptedChunks: 1,
        rejectedChunks: 0,
        rejectionReasons: [],
        acceptedChunkIds: ['id-1'],
      });
    },
    chunks: async () => answer(chunks),
    observe: (event) => events.push(event),
    ...options,
  });
  const { proxy } = await startProxy({
    local: new LocalServices([service], undefined),
    authorize: () => {
      throw new Error('the policy is not asked about a service of ours');
    },
  });
  undo.push(() => proxy.stop());
  const ask = (method: string, path: string, body?: string) =>
    new Promise<{ readonly status: number; readonly text: string; readonly json: Record<string, unknown> }>(
      (resolve, reject) => {
        const asked = request(
          {
            host: '127.0.0.1',
            port: proxy.port,
            method,
            path: `http://policy.local${path}`,
            headers: {
              host: 'policy.local',
              ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
            },
          },
          (response) => {
            let text = '';
            response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
            response.on('end', () => {
              let json: Record<string, unknown> = {};
              try {
                json = JSON.parse(text);
              } catch {
                // it is no JSON
              }
              resolve({ status: response.statusCode ?? 0, text, json });
            });
          },
        );
        asked.on('error', reject);
        asked.end(body);
      },
    );
  return {
    clock,
    events,
    denials,
    ask,
    decide: (change: Partial<PolicyChunk>) => {
      chunks = chunks.map((chunk) => ({ ...chunk, ...change }));
    },
    fail: (next: GatewayFailure | undefined) => {
      failure = next;
    },
  };
}

describe('policy.local', () => {
  test('is not there while proposals are off', async () => {
    const { ask } = await start({ enabled: () => false });
    for (const path of ['/v1/policy/current', '/v1/denials', '/v1/proposals/a', '/']) {
      const { status, json } = await ask('GET', path);
      expect([status, json['error']]).toEqual([404, 'feature_disabled']);
    }
  });

  test('shows the policy in force, the skill, and nothing at other routes', async () => {
    const { ask } = await start();
    expect((await ask('GET', '/v1/policy/current')).json).toEqual({
      format: 'yaml',
      policy_yaml: 'version: 1\n',
    });
    expect((await ask('GET', '/v1/skill')).text).toBe('# how\n');
    for (const [method, path] of [
      ['GET', '/'],
      ['PUT', '/v1/proposals'],
      ['GET', '/v1/proposals/a/b'],
      ['POST', '/v1/denials'],
    ] as const)
      expect((await ask(method, path)).json['error']).toBe('not_found');
  });

  test('lists the latest denials, the newest first, without queries', async () => {
    const { ask, denials } = await start();
    denials.add('2026-01-01T00:00:00Z INFO supervisor: DENIED is only a word here');
    for (let n = 0; n < 120; n += 1)
      denials.add(`${n}Z OCSF HTTP:GET [MED] DENIED curl(7) -> GET http://a/${n}?key=s3cret [policy:-]`);
    const few = (await ask('GET', '/v1/denials')).json['denials'] as string[];
    expect(few).toHaveLength(10);
    expect(few[0]).toBe('119Z OCSF HTTP:GET [MED] DENIED curl(7) -> GET http://a/119?[redacted] [policy:-]');
    expect((await ask('GET', '/v1/denials?last=1000')).json['denials']).toHaveLength(100);
    expect((await ask('GET', '/v1/denials?last=0')).json['denials']).toHaveLength(1);
    expect((await ask('GET', '/v1/denials?last=x')).json['denials']).toHaveLength(10);
  });

  test('hands a proposal in and tells its state', async () => {
    const { ask, events, decide } = await start();
    const proposed = await ask('POST', '/v1/proposals', PROPOSAL);
    expect([proposed.status, proposed.json]).toEqual([
      202,
      {
        status: 'submitted',
        accepted_chunks: 1,
        rejected_chunks: 0,
        rejection_reasons: [],
        accepted_chunk_ids: ['id-1'],
      },
    ]);
    expect(events).toEqual([{ state: 'PROPOSED', message: 'an agent proposes the rule allow_api_test_443' }]);
    expect((await ask('GET', '/v1/proposals/id-1')).json).toMatchObject({
      chunk_id: 'id-1',
      status: 'pending',
    });
    expect((await ask('GET', '/v1/proposals/id-1')).json).not.toHaveProperty('policy_reloaded');
    decide({ status: 'approved' });
    expect((await ask('GET', '/v1/proposals/id-1')).json).toMatchObject({
      status: 'approved',
      policy_reloaded: false,
    });
    expect((await ask('GET', '/v1/proposals/id-2')).json['error']).toBe('chunk_not_found');
  });

  test('refuses a body that is no proposal, or too large', async () => {
    const { ask } = await start();
    expect(await ask('POST', '/v1/proposals', '{}')).toMatchObject({
      status: 400,
      json: { error: 'invalid_proposal' },
    });
    expect(await ask('POST', '/v1/proposals')).toMatchObject({
      status: 400,
      json: { error: 'invalid_proposal' },
    });
    expect((await ask('POST', '/v1/proposals', `"${'x'.repeat(65_536)}"`)).status).toBe(413);
  });

  test('waits for the decision, then for the policy to hold the rule', async () => {
    let inForce = false;
    const covered: (NetworkPolicyRule | undefined)[] = [];
    const { ask, clock, decide, events } = await start({
      covers: ({ proposedRule }) => {
        covered.push(proposedRule);
        return inForce;
      },
    });
    await ask('POST', '/v1/proposals', PROPOSAL);
    const waiting = ask('GET', '/v1/proposals/id-1/wait?timeout=30');
    let over = false;
    void waiting.then(() => (over = true));
    await expect.poll(() => clock.planned).toBeGreaterThan(0);
    await clock.advance(5);
    decide({ status: 'approved' });
    await clock.advance(2);
    await expect.poll(() => covered.length).toBeGreaterThan(0);
    expect(over).toBe(false);
    inForce = true;
    await clock.advance(1);
    expect((await waiting).json).toMatchObject({ status: 'approved', policy_reloaded: true });
    expect(events.map(({ state }) => state)).toEqual(['PROPOSED', 'APPROVED']);
  });

  test('tells a rejection at once, with the reviewer’s words cut short', async () => {
    const { ask, decide, events } = await start();
    await ask('POST', '/v1/proposals', PROPOSAL);
    decide({ status: 'rejected', rejectionReason: `no\u0007${'x'.repeat(400)}` });
    const { json } = await ask('GET', '/v1/proposals/id-1/wait');
    expect(json['status']).toBe('rejected');
    await ask('GET', '/v1/proposals/id-1/wait');
    const told = events.filter(({ state }) => state === 'REJECTED');
    expect(told).toHaveLength(1);
    expect(told[0]?.message).toBe(`the rule allow_api_test_443 was rejected: no${'x'.repeat(198)}`);
  });

  test('says when the time is over', async () => {
    const { ask, clock } = await start();
    await ask('POST', '/v1/proposals', PROPOSAL);
    const waiting = ask('GET', '/v1/proposals/id-1/wait?timeout=3');
    await expect.poll(() => clock.planned).toBeGreaterThan(0);
    await clock.advance(5);
    expect((await waiting).json).toMatchObject({ status: 'pending', timed_out: true });
  });

  test.each([
    ['gateway_unavailable', 503],
    ['workspace_unavailable', 503],
    ['sandbox_name_unavailable', 503],
    ['gateway_connect_failed', 502],
    ['proposal_submit_failed', 502],
  ] as const)('answers %s with %i', async (code, status) => {
    const { ask, fail } = await start();
    fail({ code, detail: 'why' });
    expect(await ask('POST', '/v1/proposals', PROPOSAL)).toMatchObject({
      status,
      json: { error: code, detail: 'why' },
    });
  });

  test('lets only so many wait', async () => {
    const { ask, clock } = await start();
    await ask('POST', '/v1/proposals', PROPOSAL);
    const waiting = Array.from({ length: 32 }, () => ask('GET', '/v1/proposals/id-1/wait?timeout=1'));
    await expect.poll(() => clock.planned).toBeGreaterThanOrEqual(32);
    expect((await ask('GET', '/v1/proposals/id-1/wait')).json['error']).toBe('too_many_waiting');
    await clock.advance(5);
    await Promise.all(waiting);
  });
});

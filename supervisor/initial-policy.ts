import { existsSync } from 'node:fs';
import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { type Config, readTextFile } from './config.ts';
import { Fault } from './fault.ts';
import { isTransient } from './gateway/channel.ts';
import type { GatewayLink } from './gateway/link.ts';
import type { LastGoodConfig } from './last-good-config.ts';
import type { Logger } from './observability/log.ts';
import type { PolicyDocument } from './policy/document.ts';
import { RESTRICTIVE_DEFAULT } from './policy/restrictive-default.ts';
import { policyToWire } from './policy/wire.ts';
import { parsePolicyYaml } from './policy/yaml.ts';
import { faultsOf, type Outcome, PolicyInForce } from './policy-in-force.ts';
import { err, ok, type Result } from './result.ts';
import { readSandboxFacts } from './sandbox-facts.ts';

/** A policy that the image may bring, used when the gateway has none (contract.md, 4.6). */
const IMAGE_POLICY = '/etc/openshell/policy.yaml';

export interface InitialPolicy {
  readonly policy: PolicyInForce;
  /** What the gateway said, and what became of it, when it was asked and answered. */
  readonly fetched: { readonly config: GetSandboxConfigResponse; readonly outcome: Outcome } | undefined;
  /** The configuration is the one that was kept, because the gateway is away. */
  readonly kept: boolean;
}

/**
 * The policy that the sandbox starts with: a file, the gateway's, the one kept from it while it is away, the
 * image's, or the restrictive default. A gateway that answers with a refusal is not away.
 */
export async function initialPolicy(
  config: Config,
  link: GatewayLink | undefined,
  kept: LastGoodConfig | undefined,
  log: Logger,
): Promise<Result<InitialPolicy, Fault>> {
  const { policySource } = config;
  switch (policySource.kind) {
    case 'file': {
      const document = readPolicyFile(policySource.path, '--policy');
      return document.ok ? ok(given(document.value)) : document;
    }
    case 'default':
      log.warn(
        'no policy was given: the restrictive default holds, without any network; use --policy or a gateway',
      );
      return ok(given(RESTRICTIVE_DEFAULT));
    case 'gateway': {
      if (link === undefined)
        return err(new Fault('internal', 'the gateway’s policy was asked for without a gateway'));
      const fetched = await link.initialConfig();
      if (fetched.ok) return fromGateway(fetched.value, link, config.sandboxName, log);
      return isTransient(fetched.error.cause) && kept !== undefined
        ? fromKept(kept, fetched.error, log)
        : fetched;
    }
  }
}

const given = (document: PolicyDocument): InitialPolicy => ({
  policy: new PolicyInForce(document, readSandboxFacts()),
  fetched: undefined,
  kept: false,
});

function fromKept(kept: LastGoodConfig, away: Fault, log: Logger): Result<InitialPolicy, Fault> {
  const loaded = kept.load();
  if (!loaded.ok) {
    const why =
      loaded.error === 'ENOENT'
        ? 'none was kept from an earlier start'
        : `the kept one cannot be used: ${loaded.error}`;
    return err(new Fault('gateway', `${away.message}; ${why}`, { cause: away }));
  }
  const policy = new PolicyInForce(undefined, readSandboxFacts());
  const outcome = policy.apply(loaded.value);
  if (outcome.kind !== 'loaded')
    return err(new Fault('gateway', `${away.message}; the kept one is not valid`, { cause: away }));
  log.warn('the gateway is away: the last configuration that it gave holds', {
    version: outcome.version,
    hash: outcome.hash,
    cause: away.message,
  });
  return ok({ policy, fetched: undefined, kept: true });
}

async function fromGateway(
  received: GetSandboxConfigResponse,
  link: GatewayLink,
  sandboxName: string,
  log: Logger,
): Promise<Result<InitialPolicy, Fault>> {
  if (received.policy !== undefined) return ok(applied(received));
  const inImage = existsSync(IMAGE_POLICY);
  const read = inImage ? readPolicyFile(IMAGE_POLICY, 'the image') : ok(RESTRICTIVE_DEFAULT);
  if (!read.ok) return read;
  const document = ofTheSandbox(read.value);
  if (inImage)
    log.info('the gateway has no policy for this sandbox: the image’s holds', { file: IMAGE_POLICY });
  else
    log.warn(
      'the gateway has no policy for this sandbox: the restrictive default holds, without any network',
    );
  // The gateway is told what holds, so that it can be looked at and changed there (contract.md, 7.3).
  const policy = policyToWire(document);
  const told = await link.tellPolicy(sandboxName, policy, received.workspace);
  if (!told.ok) {
    log.warn(`the gateway does not take the policy, so it holds here alone: ${told.error}`);
    return ok(given(document));
  }
  const again = await link.initialConfig();
  return ok(again.ok && again.value.policy !== undefined ? applied(again.value) : given(document));
}

function applied(config: GetSandboxConfigResponse): InitialPolicy {
  const policy = new PolicyInForce();
  return { policy, fetched: { config, outcome: policy.apply(config) }, kept: false };
}

/** Rules of this name are the gateway's to compose (contract.md, 7.2): an image has no say in them. */
const RESERVED_PREFIX = '_provider_';

function ofTheSandbox(document: PolicyDocument): PolicyDocument {
  const rules = Object.entries(document.networkPolicies).filter(([key]) => !key.startsWith(RESERVED_PREFIX));
  return { ...document, networkPolicies: Object.fromEntries(rules) };
}

function readPolicyFile(path: string, setting: string): Result<PolicyDocument, Fault> {
  const text = readTextFile(path, setting);
  if (!text.ok) return text;
  const parsed = parsePolicyYaml(text.value);
  return parsed.ok
    ? parsed
    : err(new Fault('policy', `the policy ${path} is not valid: ${faultsOf(parsed)}`));
}

import { existsSync } from 'node:fs';
import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { type Config, readTextFile } from './config.ts';
import { Fault } from './fault.ts';
import type { GatewayLink } from './gateway/link.ts';
import type { Logger } from './observability/log.ts';
import type { PolicyDocument } from './policy/document.ts';
import { RESTRICTIVE_DEFAULT } from './policy/restrictive-default.ts';
import { parsePolicyYaml } from './policy/yaml.ts';
import { faultsOf, type Outcome, PolicyInForce } from './policy-in-force.ts';
import { err, ok, type Result } from './result.ts';

/** A policy that the image may bring, used when the gateway has none (contract.md, 4.6). */
const IMAGE_POLICY = '/etc/openshell/policy.yaml';

export interface InitialPolicy {
  readonly policy: PolicyInForce;
  /** What became of the gateway's configuration, when it was asked. */
  readonly outcome: Outcome | undefined;
}

/** The policy that the sandbox starts with: a file, the gateway's, the image's, or the restrictive default. */
export async function initialPolicy(
  config: Config,
  link: GatewayLink | undefined,
  log: Logger,
): Promise<Result<InitialPolicy, Fault>> {
  const { policySource } = config;
  switch (policySource.kind) {
    case 'file': {
      const document = readPolicyFile(policySource.path, '--policy');
      return document.ok ? ok({ policy: new PolicyInForce(document.value), outcome: undefined }) : document;
    }
    case 'default':
      log.warn(
        'no policy was given: the restrictive default holds, without any network; use --policy or a gateway',
      );
      return ok({ policy: new PolicyInForce(RESTRICTIVE_DEFAULT), outcome: undefined });
    case 'gateway': {
      if (link === undefined)
        return err(new Fault('internal', 'the gateway’s policy was asked for without a gateway'));
      const fetched = await link.initialConfig();
      if (!fetched.ok) return fetched;
      return fromGateway(fetched.value, log);
    }
  }
}

function fromGateway(config: GetSandboxConfigResponse, log: Logger): Result<InitialPolicy, Fault> {
  if (config.policy !== undefined) {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    return ok({ policy, outcome: policy.apply(config) });
  }
  if (!existsSync(IMAGE_POLICY)) {
    log.warn(
      'the gateway has no policy for this sandbox: the restrictive default holds, without any network',
    );
    return ok({ policy: new PolicyInForce(RESTRICTIVE_DEFAULT), outcome: undefined });
  }
  const document = readPolicyFile(IMAGE_POLICY, 'the image');
  if (!document.ok) return document;
  log.info('the gateway has no policy for this sandbox: the image’s holds', { file: IMAGE_POLICY });
  return ok({ policy: new PolicyInForce(document.value), outcome: undefined });
}

function readPolicyFile(path: string, setting: string): Result<PolicyDocument, Fault> {
  const text = readTextFile(path, setting);
  if (!text.ok) return text;
  const parsed = parsePolicyYaml(text.value);
  return parsed.ok
    ? parsed
    : err(new Fault('policy', `the policy ${path} is not valid: ${faultsOf(parsed)}`));
}

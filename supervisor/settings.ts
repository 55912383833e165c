import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';

/** The gateway's settings that change what the supervisor does (contract.md, 12). */
export interface Settings {
  /** Whether security events go to a JSON file as well. */
  readonly ocsfJson: boolean;
  /** Whether the workload may propose policy. */
  readonly policyProposals: boolean;
}

/** Reads them out of a configuration. Unset, or of another type, counts as false. */
export function settingsOf({ settings }: Pick<GetSandboxConfigResponse, 'settings'>): Settings {
  const flag = (key: string): boolean => {
    const value = Object.hasOwn(settings, key) ? settings[key]?.value?.value : undefined;
    return value?.$case === 'boolValue' && value.value;
  };
  return { ocsfJson: flag('ocsf_json_enabled'), policyProposals: flag('agent_policy_proposals_enabled') };
}

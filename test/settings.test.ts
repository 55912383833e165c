import { expect, test } from 'vitest';
import {
  EffectiveSetting,
  GetSandboxConfigResponse,
} from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { settingsOf } from '../supervisor/settings.ts';

type Value = Parameters<typeof EffectiveSetting.fromPartial>[0]['value'];
const settings = (value: Value) =>
  settingsOf(
    GetSandboxConfigResponse.fromPartial({
      settings: { ocsf_json_enabled: EffectiveSetting.fromPartial({ value }) },
    }),
  );

test('a setting is on only when it is the boolean true', () => {
  expect(settings({ value: { $case: 'boolValue', value: true } }).ocsfJson).toBe(true);
  for (const value of [
    { value: { $case: 'boolValue', value: false } },
    { value: { $case: 'stringValue', value: 'true' } },
    { value: { $case: 'intValue', value: 1n } },
    undefined,
  ] as const)
    expect(settings(value).ocsfJson).toBe(false);
  expect(settingsOf({ settings: {} })).toMatchObject({ ocsfJson: false, policyProposals: false });
});

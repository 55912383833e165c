import type { Config } from './config.ts';
import { readTextFile } from './config.ts';
import { planConfinement } from './confinement/plan.ts';
import { runProbe } from './confinement/probe.ts';
import type { Enforcement } from './confinement/statement.ts';
import { confinementInput } from './confinement-input.ts';
import { createResolver } from './egress/resolver.ts';
import { probeGateway } from './gateway/reachability.ts';
import { RESTRICTIVE_DEFAULT } from './policy/restrictive-default.ts';
import { parsePolicyYaml } from './policy/yaml.ts';
import { VERSION } from './version.ts';

/**
 * `doctor`: what a person needs to see. Prints the probe, the chosen fence, what is and is not enforced, and
 * whether the gateway answers. Returns 0 when a workload could be started here, 71 when not.
 */
export async function runDoctor(config: Config, json: boolean): Promise<number> {
  const probe = await runProbe(config.launcher);
  if (!probe.ok) throw probe.error;
  const text =
    config.policySource.kind === 'file' ? readTextFile(config.policySource.path, '--policy') : undefined;
  if (text !== undefined && !text.ok) throw text.error;
  const policy = text === undefined ? undefined : parsePolicyYaml(text.value);
  const document = policy?.ok ? policy.value : RESTRICTIVE_DEFAULT;
  const input = confinementInput(config, document);
  const plan = input.ok ? planConfinement({ probe: probe.value, ...input.value }) : input;
  const hosts = readTextFile('/etc/hosts', 'the system');
  const resolv = readTextFile('/etc/resolv.conf', 'the system');
  const resolve = createResolver(hosts.ok ? hosts.value : '', resolv.ok ? resolv.value : '');
  const gateway =
    config.endpoint === undefined
      ? { configured: false as const }
      : { configured: true as const, ...(await probeGateway(config.endpoints, config.tls, resolve)) };
  const report = {
    version: VERSION,
    probe: probe.value,
    startable: plan.ok,
    refusal: plan.ok ? undefined : plan.error.message,
    fence: plan.ok ? plan.value.fence.kind : 'none',
    statement: plan.ok ? plan.value.statement : [],
    gateway,
  };
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : readable(report));
  return plan.ok ? 0 : plan.error.exitCode;
}

interface Report {
  readonly version: string;
  readonly probe: Readonly<Record<string, unknown>>;
  readonly refusal: string | undefined;
  readonly fence: string;
  readonly statement: readonly Enforcement[];
  readonly gateway: { readonly configured: boolean; readonly reachable?: boolean; readonly detail?: string };
}

function readable(report: Report): string {
  const lines = [`openshell-supervisor ${report.version}`, '', 'What this kernel and container allow'];
  for (const [name, value] of Object.entries(report.probe)) {
    const outcome =
      typeof value === 'object' && value !== null && 'ok' in value
        ? (value as { ok: boolean; errno?: string; abi?: number })
        : undefined;
    const shown =
      outcome === undefined
        ? String(value)
        : outcome.ok
          ? `yes${outcome.abi === undefined ? '' : ` (ABI ${outcome.abi})`}`
          : `no (${outcome.errno})`;
    lines.push(`  ${name.padEnd(20)} ${shown}`);
  }
  lines.push('', 'What would be enforced', `  fence                ${report.fence}`);
  for (const { aspect, level, mechanism, note } of report.statement) {
    const how = level === 'full' ? mechanism : level === 'partial' ? `${mechanism}, IN PART` : 'NOT ENFORCED';
    lines.push(`  ${aspect.padEnd(20)} ${how}: ${note}`);
  }
  if (report.refusal !== undefined) lines.push(`  refused: ${report.refusal}`);
  const { gateway } = report;
  const state = gateway.configured
    ? `${gateway.reachable ? 'reachable' : 'NOT reachable'}: ${gateway.detail}`
    : 'none configured';
  lines.push('', `Gateway: ${state}`, '');
  return lines.join('\n');
}

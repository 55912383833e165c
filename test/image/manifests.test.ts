import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../supervisor/config.ts';
import { asPod, type Manifest, readManifests } from './manifests.ts';
import { restrictedFaults } from './pod-security.ts';
import { unknownFields, validateValues } from './schema.ts';

const manifests = readManifests();
const pods = manifests
  .filter(({ kind }) => kind === 'Pod')
  .map(({ file, document }) => ({ file, document, pod: asPod(document) }));
const SUPERVISOR = 'registry.example/openshell-supervisor:0.1.0';
const TOKEN = '/var/run/secrets/openshell';

/** A copy with one piece of its JSON replaced; throws when there is nothing to replace. */
function altered(file: string, from: string, to: string): Manifest {
  const found = manifests.find((manifest) => manifest.file === file);
  const text = JSON.stringify(found?.document);
  if (found === undefined || !text.includes(from)) throw new Error(`${file} has no ${from}`);
  return { ...found, document: JSON.parse(text.replace(from, to)) };
}

describe('the Kubernetes API', () => {
  it('has every kind of manifest to judge', () => {
    expect(pods.length).toBeGreaterThanOrEqual(8);
    expect(new Set(manifests.map(({ kind }) => kind))).toEqual(
      new Set(['Pod', 'RuntimeClass', 'Namespace', 'NetworkPolicy']),
    );
  });
  it.each(manifests)('accepts the values of $file ($kind)', (manifest) => {
    expect(() => validateValues(manifest)).not.toThrow();
  });
  it('refuses a value of the wrong type', () => {
    const wrong = altered('pod-restricted.yaml', '"containerPort":8080', '"containerPort":"8080"');
    expect(() => validateValues(wrong)).toThrow(/containerPort/);
  });
  it('knows every field of every manifest', { timeout: 120_000 }, async () => {
    expect(await unknownFields(manifests)).toBe('');
  });
  it('refuses a misspelt field, however deep', { timeout: 120_000 }, async () => {
    const said = await unknownFields([
      altered('pod-kata.yaml', '"runtimeClassName"', '"runtimeClasName"'),
      altered('pod-restricted.yaml', '"pullPolicy"', '"pulPolicy"'),
      altered('pod-gvisor.yaml', '"readOnlyRootFilesystem"', '"readonlyRootFilesystem"'),
      altered('networkpolicy.yaml', '"except"', '"exempt"'),
      altered('runtimeclasses.yaml', '"handler"', '"handlr"'),
    ]);
    for (const word of ['runtimeClasName', 'pulPolicy', 'readonlyRootFilesystem', 'exempt', 'handlr'])
      expect(said).toContain(word);
  });
});

describe.each(pods)('$file', ({ file, document, pod }) => {
  const { spec } = pod;
  const [agent] = spec.containers;
  if (agent === undefined) throw new Error('no container');
  const env = Object.fromEntries(agent.env.map(({ name, value }) => [name, value]));
  const openshift = file.startsWith('pod-openshift');

  it('satisfies pod security "restricted"', () => {
    expect(restrictedFaults(pod)).toEqual([]);
  });
  it('has read-only roots and no service account token of its own', () => {
    for (const { securityContext } of [...spec.initContainers, ...spec.containers])
      expect(securityContext.readOnlyRootFilesystem).toBe(true);
    expect(spec.automountServiceAccountToken).toBe(false);
  });
  it('mounts the supervisor read-only, and the token once', () => {
    const supervisor = agent.volumeMounts.filter(({ name }) => name === 'openshell-supervisor-bin');
    expect(supervisor).toEqual([
      { name: 'openshell-supervisor-bin', mountPath: '/opt/openshell/bin', readOnly: true },
    ]);
    const token = [...spec.initContainers, ...spec.containers]
      .flatMap(({ volumeMounts }) => volumeMounts)
      .filter(({ name }) => name === 'openshell-sa-token');
    expect(token).toEqual([{ name: 'openshell-sa-token', mountPath: TOKEN, readOnly: true }]);
  });
  it('names a volume for every mount, and mounts every volume', () => {
    const mounted = [...spec.initContainers, ...spec.containers].flatMap(({ volumeMounts }) => volumeMounts);
    expect(new Set(mounted.map(({ name }) => name))).toEqual(new Set(spec.volumes.map(({ name }) => name)));
  });
  it('takes the supervisor from the one placeholder, by image volume or by copy', () => {
    const volume = spec.volumes.find(({ name }) => name === 'openshell-supervisor-bin');
    const [copy] = spec.initContainers;
    if (file.includes('copy-self')) {
      expect(volume).toHaveProperty('emptyDir');
      expect(copy?.image).toBe(SUPERVISOR);
      expect(copy?.command).toEqual(['/openshell-sandbox', 'copy-self', '/opt/openshell/bin']);
    } else {
      expect(copy).toBeUndefined();
      expect(volume).toMatchObject({ image: { reference: SUPERVISOR } });
    }
    expect(agent.image).toBe('docker.io/library/debian:bookworm-slim');
  });
  it('is accepted by the supervisor, with the identity, the token and the gateway that it means', () => {
    const [program, ...flags] = agent.command;
    expect(program).toBe('/opt/openshell/bin/openshell-sandbox');
    const parsed = parseCommandLine(flags, env);
    if (!parsed.ok) throw parsed.error;
    if (parsed.value.kind !== 'run') throw new Error(`it would ${parsed.value.kind}`);
    const { config } = parsed.value;
    expect(config.warnings).toEqual([]);
    expect(config.sandboxId).toBe(pod.metadata.annotations['openshell.io/sandbox-id']);
    expect(config.sandboxName).toBe(pod.metadata.name);
    expect(config.endpoint?.protocol).toBe('http:');
    expect(config.token).toEqual({ kind: 'kubernetes', path: `${TOKEN}/token` });
    expect(config.workdir).toBe('/sandbox');
    expect(config.identity).toEqual(openshift ? undefined : { uid: 1000, gid: 1000 });
    const [health] = agent.ports;
    expect(config.health).toEqual({ host: '0.0.0.0', port: health?.containerPort });
    for (const probe of [agent.startupProbe, agent.livenessProbe])
      expect(probe?.httpGet).toEqual({ path: '/healthz', port: health?.name });
    expect(agent.readinessProbe?.httpGet).toEqual({ path: '/readyz', port: health?.name });
  });
  it('names ids only where the cluster does not give them', () => {
    for (const field of ['runAsUser', 'runAsGroup', 'fsGroup'])
      expect(field in spec.securityContext).toBe(!openshift);
  });
  it('lets the workload ask the supervisor for names, over TCP, and the supervisor the cluster', () => {
    expect(document).toMatchObject({
      spec: {
        dnsPolicy: 'None',
        dnsConfig: { nameservers: ['127.0.0.1'], options: [{ name: 'use-vc' }] },
      },
    });
    const parsed = parseCommandLine(agent.command.slice(1), env);
    if (!parsed.ok || parsed.value.kind !== 'run') throw new Error('it would not run');
    expect(parsed.value.config.upstreamDns).toEqual([openshift ? '172.30.0.10' : '10.96.0.10']);
  });
  it('sets the low-port sysctl except under gVisor', () => {
    const names = spec.securityContext.sysctls.map(({ name }) => name);
    expect(names).toEqual(file.startsWith('pod-gvisor') ? [] : ['net.ipv4.ip_unprivileged_port_start']);
  });
  it('uses a runtime class that is shipped, or the default', () => {
    const classes = manifests
      .filter(({ kind }) => kind === 'RuntimeClass')
      .map(({ document }) => JSON.stringify(document));
    const name = spec.runtimeClassName;
    expect(name).toBe(
      file.startsWith('pod-gvisor') ? 'gvisor' : file.startsWith('pod-kata') ? 'kata-qemu' : undefined,
    );
    if (name !== undefined) expect(classes.some((text) => text.includes(`"name":"${name}"`))).toBe(true);
  });
});

describe('pod security "restricted"', () => {
  it.each([
    ['"runAsNonRoot":true', '"runAsNonRoot":false', /root/],
    ['"drop":["ALL"]', '"drop":["KILL"]', /capabilities kept/],
    ['"drop":["ALL"]', '"drop":["ALL"],"add":["SYS_ADMIN"]', /capabilities added/],
    ['"allowPrivilegeEscalation":false', '"allowPrivilegeEscalation":true', /escalation/],
    ['"RuntimeDefault"', '"Unconfined"', /seccomp/],
    ['"image":{"reference"', '"hostPath":{"reference"', /hostPath/],
    ['"restartPolicy"', '"hostNetwork":true,"restartPolicy"', /host namespace/],
    ['net.ipv4.ip_unprivileged_port_start', 'kernel.msgmax', /sysctl/],
    ['"runAsUser":1000', '"runAsUser":0', /runAsUser 0/],
    ['"containerPort"', '"hostPort":80,"containerPort"', /host port/],
  ])('refuses a pod whose %s became %s', (from, to, sentence) => {
    const { document } = altered('pod-restricted.yaml', from, to);
    expect(restrictedFaults(asPod(document)).join('\n')).toMatch(sentence);
  });
  it('is enforced in the namespace that is shipped', () => {
    expect(manifests.find(({ kind }) => kind === 'Namespace')?.document).toMatchObject({
      metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    });
  });
});

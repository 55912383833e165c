import type { PodManifest } from './manifests.ts';

/** Volume types that "restricted" admits; `image` from Kubernetes 1.33. */
const VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'image',
  'persistentVolumeClaim',
  'projected',
  'secret',
];

const SYSCTLS = [
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ping_group_range',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.tcp_wmem',
];

/** What pod security "restricted" has against a pod: one sentence each, none when it is admitted. */
export function restrictedFaults({ spec }: PodManifest): readonly string[] {
  const pod = spec.securityContext;
  const faults: string[] = [];
  const forbid = (wrong: boolean, sentence: string): void => {
    if (wrong) faults.push(sentence);
  };
  forbid(spec.hostNetwork === true || spec.hostPID === true || spec.hostIPC === true, 'host namespace');
  for (const { name } of pod.sysctls) forbid(!SYSCTLS.includes(name), `unsafe sysctl ${name}`);
  for (const { name, ...source } of spec.volumes)
    for (const type of Object.keys(source)) forbid(!VOLUMES.includes(type), `volume ${name}: ${type}`);
  for (const field of ['seLinuxOptions', 'appArmorProfile', 'windowsOptions'])
    forbid(field in pod, `${field} is set`);
  forbid(pod.runAsUser === 0, 'runAsUser 0');
  for (const { name, securityContext: own, ports } of [...spec.initContainers, ...spec.containers]) {
    for (const field of ['seLinuxOptions', 'appArmorProfile', 'windowsOptions'])
      forbid(field in own, `${name}: ${field} is set`);
    forbid(own.privileged === true, `${name}: privileged`);
    forbid(own.allowPrivilegeEscalation !== false, `${name}: privilege escalation`);
    forbid((own.runAsNonRoot ?? pod.runAsNonRoot) !== true, `${name}: may run as root`);
    forbid(own.runAsUser === 0, `${name}: runAsUser 0`);
    const seccomp = (own.seccompProfile ?? pod.seccompProfile)?.type;
    forbid(seccomp !== 'RuntimeDefault' && seccomp !== 'Localhost', `${name}: seccomp ${seccomp}`);
    forbid(own.capabilities?.drop.includes('ALL') !== true, `${name}: capabilities kept`);
    forbid(
      (own.capabilities?.add ?? []).some((added) => added !== 'NET_BIND_SERVICE'),
      `${name}: capabilities added`,
    );
    forbid(own.procMount !== undefined && own.procMount !== 'Default', `${name}: proc mount`);
    forbid(
      ports.some(({ hostPort }) => hostPort !== undefined),
      `${name}: host port`,
    );
  }
  return faults;
}

import type { ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureRootfs } from '../lib/rootfs.ts';
import { ADDRESS, type Network, type World } from '../lib/world.ts';
import { MOUNTED, startServer } from './chroot.ts';

const BODY = 1024;

export const ORIGIN = { host: 'api.allowed.test', port: 9443 } as const;
/** Of the large body, in bytes. */
export const LARGE = 256 << 20;

/** One that stands between the client and the origin, and sees the requests in the clear. */
export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly way: 'connect' | 'direct';
  readonly command: readonly string[];
}

const CERTIFICATES = '/run/certificates';
const CERTGEN = `/usr/lib/squid/security_file_certgen -s ${CERTIFICATES} -M 4MB`;

export const PEERS: readonly Peer[] = [
  {
    name: 'mitmproxy',
    port: 4201,
    way: 'connect',
    command: [
      'mitmdump',
      '--quiet',
      ...['--listen-host', '127.0.0.1', '--listen-port', '4201'],
      ...['--certs', `${ORIGIN.host}=${MOUNTED}/pair.pem`],
      ...['--set', `confdir=${MOUNTED}/mitmproxy`],
      ...['--set', `ssl_verify_upstream_trusted_ca=${MOUNTED}/ca.pem`],
      // As all others have it: else it reads bodies whole.
      ...['--set', 'stream_large_bodies=1m'],
    ],
  },
  {
    name: 'squid, ssl-bump',
    port: 4202,
    way: 'connect',
    command: [
      ...['sh', '-c', `${CERTGEN} -c && chown -R proxy ${CERTIFICATES} && exec "$@"`, 'sh'],
      ...['squid', '-N', '-f', `${MOUNTED}/squid.conf`],
    ],
  },
  {
    name: 'nginx, a TLS reverse proxy',
    port: 4203,
    way: 'direct',
    command: ['nginx', '-c', `${MOUNTED}/reverse.conf`],
  },
];

const SQUID = `http_port 127.0.0.1:4202 ssl-bump tls-cert=${MOUNTED}/authority.pem generate-host-certificates=on
sslcrtd_program ${CERTGEN}
sslcrtd_children 1
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
tls_outgoing_options cafile=${MOUNTED}/ca.pem
http_access allow all
dns_nameservers ${ADDRESS.dns}
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
netdb_filename none
pinger_enable off
max_filedescriptors 8192
client_idle_pconn_timeout 10 minutes
server_idle_pconn_timeout 10 minutes
`;

const nginx = (http: string): string => `daemon off;
master_process off;
user root;
pid /run/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  ssl_certificate ${MOUNTED}/world.pem;
  ssl_certificate_key ${MOUNTED}/world.key;
  default_type application/octet-stream;
${http}}
`;

const ORIGIN_CONFIG = nginx(`  server {
    listen ${ADDRESS.allowed}:${ORIGIN.port} ssl backlog=4096;
    sendfile on;
    location / { return 200 "${'a'.repeat(BODY)}"; }
    location = /big { root ${MOUNTED}; }
  }
`);
const REVERSE_CONFIG = nginx(`  upstream origin {
    server ${ADDRESS.allowed}:${ORIGIN.port};
    keepalive 1024;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:4203 ssl backlog=4096;
    location / {
      proxy_pass https://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate ${MOUNTED}/ca.pem;
      proxy_ssl_name ${ORIGIN.host};
      proxy_ssl_server_name on;
    }
  }
`);

/** Starts the peers of the rootfs `peers`, which needs nothing of this machine's packages. */
export async function makePeers(directory: string, world: World) {
  const rootfs = await ensureRootfs('peers');
  const { key, certificate, authorityKey } = world.identity;
  const at = (name: string): string => join(directory, name);
  copyFileSync(world.caFile, at('ca.pem'));
  copyFileSync(key, at('world.key'));
  copyFileSync(certificate, at('world.pem'));
  const pair = (name: string, ...files: readonly string[]): void =>
    writeFileSync(at(name), files.map((file) => readFileSync(file, 'utf8')).join(''));
  pair('pair.pem', key, certificate);
  pair('authority.pem', authorityKey, world.caFile);
  writeFileSync(at('resolv.conf'), `nameserver ${ADDRESS.dns}\n`);
  writeFileSync(at('squid.conf'), SQUID);
  writeFileSync(at('origin.conf'), ORIGIN_CONFIG);
  writeFileSync(at('reverse.conf'), REVERSE_CONFIG);
  writeFileSync(at('big'), '');
  truncateSync(at('big'), LARGE);
  mkdirSync(at('mitmproxy'));

  const start = (
    namespace: string,
    command: readonly string[],
    listening: { readonly port: number; readonly exec: Network['exec'] },
  ): Promise<ChildProcess> => startServer({ rootfs, directory, namespace, command, ...listening });
  return {
    origin: () =>
      start(world.namespace, ['nginx', '-c', `${MOUNTED}/origin.conf`], { ...ORIGIN, exec: world.exec }),
    peer: (peer: Peer, { namespace, exec }: Network) =>
      start(namespace, peer.command, { port: peer.port, exec }),
  };
}

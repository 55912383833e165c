import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { missing } from '../runtime/requirements.ts';
import { CURL_TO_API, sandboxPolicy } from '../runtime/sandbox-policy.ts';
import { sharedWorld } from '../runtime/world-fixture.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

/**
 * The image belongs to whoever wrote the agent. Every way in which its files and its ENV have a program of glibc or
 * of OpenSSL load a library is a bait here: the library leaves a file that names the program it was loaded into.
 */
const why = missing('runc');
const { directory, file } = temporaryDirectory('hostile-image-');
const POLICY = file('policy.yaml', sandboxPolicy(CURL_TO_API));
const BAIT = '/usr/lib/x86_64-linux-gnu/libnss_evil.so.2';
const library = join(directory, 'libnss_evil.so.2');
/** What ordinary programs of the image do with each bait. */
const PROGRAMS =
  'env -u LD_PRELOAD getent hosts nowhere.test; echo x | iconv -f EVIL -t UTF-8; openssl version >/dev/null; ' +
  'curl -s -m 5 -o /dev/null -w "answer %{http_code}\\n" http://api.allowed.test/; ls /tmp';

const bind = (name: string, text: string, destination: string) => ({
  source: file(name, text),
  destination,
});
const LIBRARY = { source: library, destination: BAIT };

interface Trap {
  readonly options: Partial<SandboxOptions>;
  /** A program of the image that takes the bait: without it the trap would prove nothing. */
  readonly caught: string;
}
const TRAPS: Readonly<Record<string, Trap>> = {
  'LD_PRELOAD and the library path of its ENV': {
    caught: 'ls',
    options: { binds: [LIBRARY], env: { LD_PRELOAD: BAIT, LD_LIBRARY_PATH: '/usr/lib/x86_64-linux-gnu' } },
  },
  'LD_AUDIT of its ENV': { caught: 'ls', options: { binds: [LIBRARY], env: { LD_AUDIT: BAIT } } },
  '/etc/ld.so.preload': {
    caught: 'ls',
    options: { binds: [LIBRARY, bind('ld.so.preload', `${BAIT}\n`, '/etc/ld.so.preload')] },
  },
  '/etc/nsswitch.conf': {
    caught: 'getent',
    options: {
      binds: [LIBRARY, bind('nsswitch.conf', 'passwd: evil\nhosts: evil dns\n', '/etc/nsswitch.conf')],
    },
  },
  'the character sets of its locale': {
    caught: 'iconv',
    options: {
      binds: [
        { source: library, destination: '/usr/share/evil/evil.so' },
        bind('gconv-modules', 'module EVIL// INTERNAL evil 1\n', '/usr/share/evil/gconv-modules'),
      ],
      env: { GCONV_PATH: '/usr/share/evil', LOCPATH: '/usr/share/evil', LC_ALL: 'ev_IL.EVIL' },
    },
  },
  'the OpenSSL configuration, by ENV and in /etc/ssl': {
    caught: 'openssl',
    options: {
      binds: [
        LIBRARY,
        ...['/usr/share/evil.cnf', '/etc/ssl/openssl.cnf'].map((place) =>
          bind(
            'openssl.cnf',
            `openssl_conf = x\nnodejs_conf = x\n[x]\nengines = y\nproviders = y\n[y]\nz = q\n[q]\ndynamic_path = ${BAIT}\nmodule = ${BAIT}\nactivate = 1\ninit = 1\n`,
            place,
          ),
        ),
      ],
      env: { OPENSSL_CONF: '/usr/share/evil.cnf', SSL_CERT_FILE: '/evil.pem' },
    },
  },
};

describeUnless(why, 'an image', () => {
  const world = sharedWorld({ gateway: false });
  beforeAll(() => {
    execFileSync('cc', ['-shared', '-fPIC', '-o', library, file('evil.c', EVIL)]);
  });

  test.each(Object.entries(TRAPS))(
    'cannot steer the supervisor by %s',
    async (_name, { options, caught }) => {
      const { stdout, stderr, code } = await runSandbox({
        policy: POLICY,
        command: ['/bin/sh', '-c', PROGRAMS],
        network: await world().network(),
        ...options,
        env: {
          // Neither does any of these change what Node does.
          NODE_OPTIONS: '--require /evil.js',
          NODE_EXTRA_CA_CERTS: '/evil.pem',
          GLIBC_TUNABLES: 'glibc.malloc.check=3',
          OPENSHELL_LOG_LEVEL: 'warn',
          ...options.env,
        },
      });
      const loaded = stdout.split('\n').filter((line) => line.startsWith('loaded-'));
      expect(loaded, stderr).toContain(`loaded-${caught}`);
      expect(loaded.filter((line) => /supervisor|sandbox|ld-linux/.test(line))).toEqual([]);
      expect(stdout).toMatch(/^answer 200$/m);
      expect(code).toBe(0);
      expect(stderr).not.toContain('supervisor');
    },
  );
});

const EVIL = `#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
unsigned la_version(unsigned version) { return version; }
__attribute__((constructor)) static void loaded(void) {
  char exe[512] = "", path[600];
  if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) strcpy(exe, "/unknown-supervisor");
  snprintf(path, sizeof path, "/tmp/loaded-%s", strrchr(exe, '/') + 1);
  close(open(path, O_CREAT | O_WRONLY, 0666));
}
`;

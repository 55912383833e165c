import { execFile } from 'node:child_process';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import { RuntimeClass } from 'kubernetes-models/node.k8s.io/v1/RuntimeClass';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { Pod } from 'kubernetes-models/v1/Pod';
import type { Manifest } from './manifests.ts';

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));

/** The API's kinds that we ship, by `apiVersion kind`: the package's module and its validating class. */
const KINDS = {
  'v1 Namespace': { module: 'v1/Namespace', Model: Namespace },
  'v1 Pod': { module: 'v1/Pod', Model: Pod },
  'networking.k8s.io/v1 NetworkPolicy': {
    module: 'networking.k8s.io/v1/NetworkPolicy',
    Model: NetworkPolicy,
  },
  'node.k8s.io/v1 RuntimeClass': { module: 'node.k8s.io/v1/RuntimeClass', Model: RuntimeClass },
} as const;

type Kind = keyof typeof KINDS;

function kindOf({ apiVersion, kind }: Manifest): Kind {
  const name = `${apiVersion} ${kind}`;
  const known = Object.keys(KINDS).find((key): key is Kind => key === name);
  if (known === undefined) throw new Error(`no schema is known for ${name}`);
  return known;
}

/** Throws unless the values satisfy the API's JSON schema: types, required fields, formats, enumerations. */
export function validateValues(manifest: Manifest): void {
  // The schema decides at run time what the constructors' types decide for code.
  const { Model } = KINDS[kindOf(manifest)];
  new Model(manifest.document as never).validate();
}

/**
 * What the compiler has against the manifests as literals of the API's types, empty when nothing. The
 * package's validators pass over fields they do not know; excess properties of a literal are errors.
 */
export async function unknownFields(manifests: readonly Manifest[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'manifests-'));
  try {
    const source = manifests.map((manifest, index) => {
      const { module } = KINDS[kindOf(manifest)];
      return `const d${index}: import('kubernetes-models/${module}').I${manifest.kind} = ${JSON.stringify(manifest.document)};\nvoid d${index};\n`;
    });
    await symlink(modules, join(directory, 'node_modules'));
    await writeFile(join(directory, 'package.json'), '{"type":"module"}');
    await writeFile(join(directory, 'manifests.ts'), source.join(''));
    return await compile(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

function compile(directory: string): Promise<string> {
  const flags = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--module',
    'nodenext',
    '--types',
    '',
    'manifests.ts',
  ];
  return new Promise((resolve, reject) => {
    execFile(
      join(modules, '.bin/tsc'),
      flags,
      { cwd: directory, timeout: 100_000 },
      (error, out, complaint) => {
        if (error === null) resolve('');
        else if (out === '') reject(new Error(`tsc failed: ${complaint}`, { cause: error }));
        else resolve(out);
      },
    );
  });
}

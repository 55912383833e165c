import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { parseAllDocuments } from 'yaml';

const directory = fileURLToPath(new URL('../../image/', import.meta.url));

export interface Manifest {
  readonly file: string;
  readonly kind: string;
  readonly apiVersion: string;
  readonly document: unknown;
}

const Head = v.object({ apiVersion: v.string(), kind: v.string() });

const Mount = v.object({
  name: v.string(),
  mountPath: v.string(),
  readOnly: v.optional(v.boolean(), false),
});

const Context = v.looseObject({
  privileged: v.optional(v.boolean()),
  allowPrivilegeEscalation: v.optional(v.boolean()),
  readOnlyRootFilesystem: v.optional(v.boolean()),
  runAsNonRoot: v.optional(v.boolean()),
  runAsUser: v.optional(v.number()),
  procMount: v.optional(v.string()),
  seccompProfile: v.optional(v.object({ type: v.string() })),
  capabilities: v.optional(
    v.object({ drop: v.optional(v.array(v.string()), []), add: v.optional(v.array(v.string()), []) }),
  ),
});

const Probe = v.object({ httpGet: v.object({ path: v.string(), port: v.union([v.string(), v.number()]) }) });

const Container = v.looseObject({
  name: v.string(),
  image: v.string(),
  command: v.array(v.string()),
  env: v.optional(v.array(v.object({ name: v.string(), value: v.string() })), []),
  securityContext: v.optional(Context, {}),
  ports: v.optional(
    v.array(v.object({ name: v.string(), containerPort: v.number(), hostPort: v.optional(v.number()) })),
    [],
  ),
  volumeMounts: v.optional(v.array(Mount), []),
  startupProbe: v.optional(Probe),
  livenessProbe: v.optional(Probe),
  readinessProbe: v.optional(Probe),
});

const Pod = v.object({
  metadata: v.object({ name: v.string(), annotations: v.record(v.string(), v.string()) }),
  spec: v.looseObject({
    runtimeClassName: v.optional(v.string()),
    hostNetwork: v.optional(v.boolean()),
    hostPID: v.optional(v.boolean()),
    hostIPC: v.optional(v.boolean()),
    automountServiceAccountToken: v.boolean(),
    securityContext: v.looseObject({
      runAsNonRoot: v.optional(v.boolean()),
      runAsUser: v.optional(v.number()),
      seccompProfile: v.optional(v.object({ type: v.string() })),
      sysctls: v.optional(v.array(v.object({ name: v.string(), value: v.string() })), []),
    }),
    initContainers: v.optional(v.array(Container), []),
    containers: v.array(Container),
    volumes: v.array(v.looseObject({ name: v.string() })),
  }),
});

export type PodManifest = v.InferOutput<typeof Pod>;

/** Every document of every manifest under image/; throws on YAML with an error or a warning. */
export function readManifests(): readonly Manifest[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.yaml'))
    .flatMap((file) =>
      parseAllDocuments(readFileSync(`${directory}${file}`, 'utf8')).map((parsed) => {
        const [fault] = [...parsed.errors, ...parsed.warnings];
        if (fault !== undefined) throw fault;
        const document: unknown = parsed.toJS();
        return { file, document, ...v.parse(Head, document) };
      }),
    );
}

/** The pod of a document, as far as the tests look into it; throws when it is not one. */
export function asPod(document: unknown): PodManifest {
  return v.parse(Pod, document);
}

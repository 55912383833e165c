import type { Duplex } from 'node:stream';
import { Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import { InferenceDefinition } from '../../proto/generated/openshell/inference/v1/inference.ts';
import type { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import {
  OpenShellDefinition,
  type PolicyChunk,
  type RelayOpen,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { Result } from '../../supervisor/result.ts';
import { err, ok } from '../../supervisor/result.ts';
import { startControl } from './control.ts';
import { serveDataCalls, type TakeDataCall } from './data-call.ts';
import { serviceDefinition } from './grpc.ts';
import { policyFromYaml } from './policy-yaml.ts';
import { GatewayService } from './service.ts';
import type { AnalysisView, ExitView, LogView, PolicyReportView, SessionView } from './state.ts';
import type { Fault } from './status-errors.ts';
import type { MintedToken } from './tokens.ts';

export interface DevGatewayOptions {
  /** An IP address; 127.0.0.1 by default. */
  readonly host?: string;
  /** 0, the default, takes a free one. */
  readonly port?: number;
  readonly controlHost?: string;
  readonly controlPort?: number;
  /** 3600 by default; 0 = tokens do not expire. */
  readonly tokenTtlSeconds?: number;
  /** ServiceAccount token to sandbox id. Without it any ServiceAccount token is exchanged. */
  readonly serviceAccounts?: ReadonlyMap<string, string>;
  /** The interval that sessions are told, 15 by default. */
  readonly heartbeatSeconds?: number;
  /** The first redial's window that sessions are told; 0, the default, leaves it to the supervisor. */
  readonly redialWindowSeconds?: number;
  /** Methods that an older gateway does not have, by the names of the generated code. */
  readonly missing?: readonly string[];
  /** Sends messages and fields that this version does not know, as a newer gateway would. */
  readonly newer?: boolean;
  /** PEM texts for mutual TLS; plaintext HTTP/2 without. */
  readonly tls?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  /** Gets one readable line for each thing that happens. */
  readonly onEvent?: (line: string) => void;
}

/** A gateway for development and tests: real gRPC, state in memory. */
export interface DevGateway {
  readonly port: number;
  readonly controlPort: number;
  /** Closes the port and every connection; later dials are refused by the kernel. */
  refuse(): Promise<void>;
  /** Listens again on the same port. */
  accept(): Promise<void>;
  stop(): Promise<void>;
  sessions(): readonly SessionView[];
  logs(): readonly LogView[];
  exits(): readonly ExitView[];
  policyReports(): readonly PolicyReportView[];
  /** Denial summaries and proposals, a submission each. */
  analyses(): readonly AnalysisView[];
  chunks(): readonly PolicyChunk[];
  /** Decides on a proposal that waits; false when there is none by that id. */
  decideChunk(id: string, approved: boolean, reason: string): boolean;
  /** Sets these settings for every sandbox and leaves the others as they are. */
  setSettings(settings: Readonly<Record<string, boolean>>): void;
  /** Makes these the credentials of every sandbox; text is JSON (providers.ts). Throws what is wrong with it. */
  setCredentials(text: string): void;
  setInferenceRoutes(text: string): void;
  openRelay(sandboxId: string, target: RelayOpen['target']): Promise<Duplex>;
  /** Makes these the middlewares of every sandbox; text is JSON (middlewares.ts). Throws what is wrong with it. */
  setMiddlewares(text: string): void;
  /** Makes a policy the next version for every sandbox; text is YAML. The new version, or what is wrong. */
  setPolicy(policy: SandboxPolicy | string): Result<number, string>;
  dropSession(id: string): boolean;
  /** What every call gets instead of its answer, until it is called without. */
  failWith(fault: Fault | undefined): void;
  /** The reason that sessions are rejected with, until it is called without. */
  rejectWith(reason: string | undefined): void;
  /** Sends GOAWAY on every connection; what runs may go on for `graceMs`. New connections are taken. */
  goAway(graceMs: number): void;
  /** A token of this gateway for a sandbox. */
  mintToken(sandboxId: string): MintedToken;
}

/** Starts a gateway; rejects when a port is taken or not allowed. */
export async function startDevGateway(options: DevGatewayOptions = {}): Promise<DevGateway> {
  const host = options.host ?? '127.0.0.1';
  const service = new GatewayService({
    tokenTtlSeconds: options.tokenTtlSeconds ?? 3600,
    serviceAccounts: options.serviceAccounts,
    heartbeatSeconds: options.heartbeatSeconds ?? 15,
    redialWindowSeconds: options.redialWindowSeconds ?? 0,
    missing: options.missing ?? [],
    newer: options.newer ?? false,
    onEvent: options.onEvent ?? (() => undefined),
  });
  const { tls } = options;
  const credentials =
    tls === undefined
      ? ServerCredentials.createInsecure()
      : ServerCredentials.createSsl(tls.ca, [{ cert_chain: tls.cert, private_key: tls.key }], true);
  const implementation = service.implementation();
  for (const name of options.missing ?? []) delete implementation[name];
  const listen = async (port: number): Promise<{ readonly server: Server; readonly port: number }> => {
    const server = new Server({
      'grpc.max_receive_message_length': 1_048_576,
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 10_000,
    });
    server.addService(serviceDefinition(OpenShellDefinition, options.newer), implementation);
    server.addService(serviceDefinition(InferenceDefinition, options.newer), service.inference());
    const place = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const taken = await new Promise<number>((resolve, reject) => {
      server.bindAsync(place, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    const calls: Record<string, TakeDataCall> = {
      relayStream: (call, headers) => service.relay(call, Metadata.fromHttp2Headers(headers)),
      forwardTcp: (call, headers) => service.forward(call, Metadata.fromHttp2Headers(headers)),
    };
    for (const name of options.missing ?? []) delete calls[name];
    serveDataCalls(
      server,
      Object.fromEntries(
        Object.entries(calls).map(([name, take]) => [
          `/${OpenShellDefinition.fullName}/${name[0]?.toUpperCase()}${name.slice(1)}`,
          take,
        ]),
      ),
    );
    return { server, port: taken };
  };
  const first = await listen(options.port ?? 0);
  service.listensAt(host, first.port);
  let server: Server | undefined = first.server;
  // Refusing and accepting follow each other, whoever asks.
  let turn: Promise<void> = Promise.resolve();
  const inTurn = (work: () => void | Promise<void>): Promise<void> => {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  };
  const close = (): void => {
    if (server === undefined) return;
    service.endAll();
    server.forceShutdown();
    server = undefined;
    options.onEvent?.('refusing connections');
  };
  const gateway = {
    port: first.port,
    refuse: () => inTurn(close),
    accept: () =>
      inTurn(async () => {
        if (server !== undefined) return;
        ({ server } = await listen(first.port));
        options.onEvent?.('accepting connections');
      }),
    sessions: () => service.sessions(),
    logs: () => service.logs(),
    exits: () => service.exits.all(),
    policyReports: () => service.policyReports.all(),
    analyses: () => service.analyses.all(),
    chunks: () => service.drafts.all(),
    decideChunk: (id: string, approved: boolean, reason: string) => service.decideChunk(id, approved, reason),
    setSettings: (settings: Readonly<Record<string, boolean>>) => service.setSettings(settings),
    openRelay: (sandboxId: string, target: RelayOpen['target']) => service.openRelay(sandboxId, target),
    setInferenceRoutes: (text: string) => service.setInferenceRoutes(text),
    setCredentials: (text: string) => service.setCredentials(text),
    setMiddlewares: (text: string) => service.setMiddlewares(text),
    setPolicy: (policy: SandboxPolicy | string): Result<number, string> => {
      const read = typeof policy === 'string' ? policyFromYaml(policy) : ok(policy);
      return read.ok ? ok(service.setPolicy(read.value).version) : err(read.error);
    },
    dropSession: (id: string) => service.dropSession(id),
    failWith: (fault: Fault | undefined) => service.failWith(fault),
    rejectWith: (reason: string | undefined) => service.rejectWith(reason),
    goAway: (graceMs: number) => server?.drain(`${host}:${first.port}`, graceMs),
    mintToken: (sandboxId: string) => service.tokens.mint(sandboxId),
  };
  try {
    const control = await startControl(gateway, options.controlHost ?? '127.0.0.1', options.controlPort ?? 0);
    return {
      ...gateway,
      controlPort: control.port,
      stop: () =>
        inTurn(() => {
          close();
          return control.stop();
        }),
    };
  } catch (error) {
    first.server.forceShutdown();
    throw error;
  }
}

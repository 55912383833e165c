import type { Duplex } from 'node:stream';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  type CreateSshSessionResponse,
  type ExecSandboxEvent,
  type ExecSandboxInput,
  type ExecSandboxRequest,
  type GetSandboxLogsRequest,
  type GetSandboxLogsResponse,
  OpenShellDefinition,
  type SandboxStreamEvent,
  TcpForwardFrame,
  type TcpForwardInit,
  type WatchSandboxRequest,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import { systemClock } from '../../../supervisor/clock.ts';
import { type Connection, openConnection } from '../../../supervisor/rpc/connection.ts';
import { serviceDefinition } from '../grpc.ts';
import { CallStream } from './call-stream.ts';

const METHODS = serviceDefinition(OpenShellDefinition);
type MethodName = keyof typeof OpenShellDefinition.methods;

/** What a person does with a gateway. */
export class GatewayClient {
  readonly #client: Client;
  readonly #place: string;
  /** What carries bytes: grpc-js copies each of them several times. */
  #connection: Promise<Connection> | undefined;

  /** `place` is host:port. */
  constructor(place: string) {
    this.#place = place;
    this.#client = new Client(place, credentials.createInsecure(), {
      'grpc.max_receive_message_length': 8 << 20,
      // What carries bytes asks no proxy either.
      'grpc.enable_http_proxy': 0,
    });
  }

  close(): void {
    this.#client.close();
    void this.#connection?.then(
      (connection) => connection.destroy('the client has closed'),
      () => undefined,
    );
  }

  createSshSession(sandboxId: string): Promise<CreateSshSessionResponse> {
    return this.#unary('createSshSession', { sandboxId });
  }

  revokeSshSession(token: string): Promise<{ readonly revoked: boolean }> {
    return this.#unary('revokeSshSession', { token });
  }

  /** The sandbox that is meant by a name, or by none. Rejects with what is wrong with it. */
  async sandboxOf(named: string): Promise<string> {
    const { sandboxId, token } = await this.createSshSession(named);
    await this.revokeSshSession(token);
    return sandboxId;
  }

  logs(request: Partial<GetSandboxLogsRequest>): Promise<GetSandboxLogsResponse> {
    return this.#unary('getSandboxLogs', {
      sandboxId: '',
      lines: 0,
      sinceMs: 0n,
      sources: [],
      minLevel: '',
      workspace: '',
      ...request,
    });
  }

  /** A stream into a sandbox: its SSH server, or a port there. */
  async forward(named: string, target: TcpForwardInit['target'], token?: string): Promise<Duplex> {
    const made = token === undefined ? await this.createSshSession(named) : { token, sandboxId: named };
    const { sandboxId, token: authorizationToken } = made;
    const { path } = this.#method('forwardTcp');
    const connection = await this.#connect();
    const value: TcpForwardInit = { sandboxId, serviceId: '', target, authorizationToken };
    return new CallStream(
      (events) => connection.call(path, '', events),
      TcpForwardFrame.encode({ payload: { $case: 'init', value } }).finish(),
    );
  }

  exec(request: ExecSandboxRequest): AsyncIterable<ExecSandboxEvent> & { cancel(): void } {
    const { path, requestSerialize, responseDeserialize } = this.#method('execSandbox');
    return this.#client.makeServerStreamRequest<ExecSandboxRequest, ExecSandboxEvent>(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => ExecSandboxEvent,
      request,
      new Metadata(),
    );
  }

  execInteractive() {
    const { path, requestSerialize, responseDeserialize } = this.#method('execSandboxInteractive');
    return this.#client.makeBidiStreamRequest<ExecSandboxInput, ExecSandboxEvent>(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => ExecSandboxEvent,
      new Metadata(),
    );
  }

  watch(request: Partial<WatchSandboxRequest>) {
    const { path, requestSerialize, responseDeserialize } = this.#method('watchSandbox');
    return this.#client.makeServerStreamRequest<WatchSandboxRequest, SandboxStreamEvent>(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => SandboxStreamEvent,
      {
        id: '',
        followStatus: false,
        followLogs: true,
        followEvents: false,
        logTailLines: 0,
        eventTail: 0,
        stopOnTerminal: false,
        logSinceMs: 0n,
        logSources: [],
        logMinLevel: '',
        ...request,
      },
      new Metadata(),
    );
  }

  /** Calls that come at once share one connection: each waits for what the one before it has found. */
  #connect(): Promise<Connection> {
    const before = this.#connection;
    const next = (async () => {
      const connection = await before?.catch(() => undefined);
      return connection?.usable === true ? connection : this.#dial();
    })();
    this.#connection = next;
    return next;
  }

  #dial(): Promise<Connection> {
    const colon = this.#place.lastIndexOf(':');
    return openConnection(
      {
        address: this.#place.slice(0, colon).replace(/^\[|\]$/g, ''),
        port: Number(this.#place.slice(colon + 1)),
        authority: this.#place,
        tls: undefined,
      },
      {
        clock: systemClock,
        connectTimeoutMs: 10_000,
        keepaliveMs: 30_000,
        keepaliveTimeoutMs: 20_000,
        maxMessageBytes: 1 << 20,
        windowBytes: 1 << 20,
      },
    );
  }

  #unary<Req, Res>(name: MethodName, request: Req): Promise<Res> {
    const { path, requestSerialize, responseDeserialize } = this.#method(name);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize as (bytes: Buffer) => Res,
        request,
        (error: ServiceError | null, answer?: Res) => {
          if (error !== null || answer === undefined) reject(error ?? new Error('no answer'));
          else resolve(answer);
        },
      );
    });
  }

  #method(name: MethodName) {
    const method = METHODS[name];
    if (method === undefined) throw new Error(`the gateway has no method ${name}`);
    return method;
  }
}

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
  type TcpForwardFrame,
  type TcpForwardInit,
  type WatchSandboxRequest,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import { FrameStream } from '../frame-stream.ts';
import { serviceDefinition } from '../grpc.ts';

const METHODS = serviceDefinition(OpenShellDefinition);
type MethodName = keyof typeof OpenShellDefinition.methods;

/** What a person does with a gateway. */
export class GatewayClient {
  readonly #client: Client;

  /** `place` is host:port. */
  constructor(place: string) {
    this.#client = new Client(place, credentials.createInsecure(), {
      'grpc.max_receive_message_length': 8 << 20,
    });
  }

  close(): void {
    this.#client.close();
  }

  createSshSession(sandboxId: string): Promise<CreateSshSessionResponse> {
    return this.#unary('createSshSession', { sandboxId });
  }

  revokeSshSession(token: string): Promise<{ readonly revoked: boolean }> {
    return this.#unary('revokeSshSession', { token });
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
  async forward(sandboxId: string, target: TcpForwardInit['target'], token?: string): Promise<Duplex> {
    const authorizationToken = token ?? (await this.createSshSession(sandboxId)).token;
    const { path, requestSerialize, responseDeserialize } = this.#method('forwardTcp');
    const call = this.#client.makeBidiStreamRequest<TcpForwardFrame, TcpForwardFrame>(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => TcpForwardFrame,
      new Metadata(),
    );
    const value: TcpForwardInit = { sandboxId, serviceId: '', target, authorizationToken };
    call.write({ payload: { $case: 'init', value } });
    return new FrameStream(call);
  }

  exec(request: ExecSandboxRequest): AsyncIterable<ExecSandboxEvent> {
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

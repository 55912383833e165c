import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  MethodDefinition,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';

interface GeneratedMethod {
  readonly name: string;
  readonly requestType: {
    encode(message: never): { finish(): Uint8Array };
    decode(bytes: Uint8Array): unknown;
  };
  readonly requestStream: boolean;
  readonly responseType: {
    encode(message: never): { finish(): Uint8Array };
    decode(bytes: Uint8Array): unknown;
  };
  readonly responseStream: boolean;
}

interface GeneratedService {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, GeneratedMethod>>;
}

type RequestOf<M extends GeneratedMethod> = ReturnType<M['requestType']['decode']>;
type ResponseOf<M extends GeneratedMethod> = ReturnType<M['responseType']['decode']>;

type HandlerOf<M extends GeneratedMethod> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? handleBidiStreamingCall<RequestOf<M>, ResponseOf<M>>
    : handleClientStreamingCall<RequestOf<M>, ResponseOf<M>>
  : M['responseStream'] extends true
    ? handleServerStreamingCall<RequestOf<M>, ResponseOf<M>>
    : handleUnaryCall<RequestOf<M>, ResponseOf<M>>;

/** What a server of the service handles; what it leaves out is UNIMPLEMENTED, as at an older gateway. */
export type Implementation<S extends GeneratedService> = UntypedServiceImplementation & {
  [K in keyof S['methods']]?: HandlerOf<S['methods'][K]>;
};

/** What a newer version would add to every message: a varint in field 2000 and a text in field 2001. */
const UNKNOWN_FIELDS = Buffer.from([0x80, 0x7d, 0x01, 0x8a, 0x7d, 0x03, 0x6e, 0x65, 0x77]);

/**
 * The generated description of a service as grpc-js wants it; the supervisor itself has no grpc-js. With
 * `newer` every answer carries fields that this version does not know.
 */
export function serviceDefinition(
  service: GeneratedService,
  newer = false,
): Record<string, MethodDefinition<unknown, unknown>> {
  return Object.fromEntries(
    Object.entries(service.methods).map(([key, method]) => [
      key,
      {
        path: `/${service.fullName}/${method.name}`,
        requestStream: method.requestStream,
        responseStream: method.responseStream,
        requestSerialize: (value: unknown) => Buffer.from(method.requestType.encode(value as never).finish()),
        requestDeserialize: (bytes: Buffer) => method.requestType.decode(bytes),
        responseSerialize: (value: unknown) =>
          Buffer.concat([
            method.responseType.encode(value as never).finish(),
            ...(newer ? [UNKNOWN_FIELDS] : []),
          ]),
        responseDeserialize: (bytes: Buffer) => method.responseType.decode(bytes),
      },
    ]),
  );
}

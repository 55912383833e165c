import { Metadata, type ServiceError, status } from '@grpc/grpc-js';

/** An answer that says no, and when to come again. */
export interface Fault {
  readonly code: status;
  readonly details: string;
  /** Whole seconds up to 127, in a google.rpc.RetryInfo. */
  readonly retryAfterSeconds?: number;
}

export function faultError({ code, details, retryAfterSeconds }: Fault): Error {
  const metadata = new Metadata();
  if (retryAfterSeconds !== undefined) {
    const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo');
    const retryInfo = Buffer.from([0x0a, 0x02, 0x08, retryAfterSeconds]);
    const any = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, 4]), retryInfo]);
    const wrapped = Buffer.concat([Buffer.from([0x08, code, 0x1a, any.length]), any]);
    metadata.set('grpc-status-details-bin', wrapped);
  }
  return Object.assign(new Error(details), { code, details, metadata });
}

export const failure = (code: status, details: string): Error =>
  Object.assign(new Error(details), { code, details });

export function asServiceError(error: unknown): Partial<ServiceError> & Error {
  return error instanceof Error ? error : failure(status.INTERNAL, 'failed');
}

export function answer<T>(
  callback: (error: Partial<ServiceError> | null, value?: T) => void,
  work: () => T,
): void {
  let value: T;
  try {
    value = work();
  } catch (error) {
    callback(asServiceError(error));
    return;
  }
  callback(null, value);
}

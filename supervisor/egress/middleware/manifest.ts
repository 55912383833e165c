import {
  type MiddlewareManifest,
  SupervisorMiddlewareOperation as Operation,
  SupervisorMiddlewarePhase as Phase,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { SupervisorMiddlewareService } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { err, ok, type Result } from '../../result.ts';
import { DEFAULT_TIMEOUT_MS, MAX_PAYLOAD_BYTES, parseTimeout } from './limits.ts';
import type { Binding, Bindings } from './service.ts';
import { type ServiceAddress, serviceAddress } from './service-address.ts';

/** A service that the gateway names, checked. */
export interface Registration {
  readonly name: string;
  readonly address: ServiceAddress;
  /** PEM; undefined for the platform's roots. */
  readonly ca: Buffer | undefined;
  readonly maxPayloadBytes: number;
  readonly timeoutMs: number;
  /** Whether calls carry a credential that the gateway mints for it. */
  readonly authenticated: boolean;
  readonly audience: string;
}

/** Checks what the gateway says of a service. The error names the field to mend. */
export function readRegistration(
  service: SupervisorMiddlewareService,
  authentication: boolean,
): Result<Registration, string> {
  const { name, audience, tlsCaCertPem } = service;
  if (!/^[A-Za-z0-9._/-]{1,128}$/.test(name))
    return err('its name must be 1 to 128 letters, digits, dots, dashes, underscores or slashes');
  if (name.startsWith('openshell/')) return err('names that begin with openshell/ are those of built-ins');
  const authenticated = authentication && !service.allowInsecureTransport;
  const insecure = service.allowInsecureTransport;
  const address = serviceAddress(service.grpcEndpoint, { insecure, authenticated });
  if (!address.ok) return address;
  if (service.maxPayloadBytes === 0n || service.maxPayloadBytes > MAX_PAYLOAD_BYTES)
    return err(`max_payload_bytes must be 1 to ${MAX_PAYLOAD_BYTES}`);
  const timeoutMs = service.timeout.trim() === '' ? DEFAULT_TIMEOUT_MS : parseTimeout(service.timeout);
  if (timeoutMs === undefined) return err('timeout must be 10ms to 30s, as <int>ms or <int>s');
  return ok({
    name,
    address: address.value,
    ca: tlsCaCertPem.length === 0 ? undefined : tlsCaCertPem,
    maxPayloadBytes: Number(service.maxPayloadBytes),
    timeoutMs,
    authenticated,
    audience,
  });
}

/** What a service offers, by what it says of itself and the bounds that its operator has set. */
export function readManifest(
  manifest: MiddlewareManifest,
  registration: Registration,
): Result<Bindings, string> {
  if (manifest.bindings.length === 0) return err('its manifest has no binding');
  let http: Binding | undefined;
  let webSocket: Binding | undefined;
  for (const { operation, phase, maxPayloadBytes, timeout } of manifest.bindings) {
    if (phase !== Phase.SUPERVISOR_MIDDLEWARE_PHASE_PRE_CREDENTIALS)
      return err('its manifest has a binding of another phase than PRE_CREDENTIALS');
    if (maxPayloadBytes === 0n || maxPayloadBytes > MAX_PAYLOAD_BYTES)
      return err(`its manifest has max_payload_bytes that are not 1 to ${MAX_PAYLOAD_BYTES}`);
    if (registration.maxPayloadBytes > maxPayloadBytes)
      return err(
        `its registration's max_payload_bytes, ${registration.maxPayloadBytes}, exceed what it can take, ${maxPayloadBytes}`,
      );
    const own = timeout.trim() === '' ? registration.timeoutMs : parseTimeout(timeout);
    if (own === undefined) return err('its manifest has a timeout that is not 10ms to 30s');
    const binding = {
      maxPayloadBytes: registration.maxPayloadBytes,
      timeoutMs: Math.min(own, registration.timeoutMs),
    };
    if (operation === Operation.SUPERVISOR_MIDDLEWARE_OPERATION_HTTP_REQUEST) {
      if (http !== undefined) return err('its manifest has two bindings of HTTP_REQUEST');
      http = binding;
    } else if (operation === Operation.SUPERVISOR_MIDDLEWARE_OPERATION_WEBSOCKET_MESSAGE) {
      if (webSocket !== undefined) return err('its manifest has two bindings of WEBSOCKET_MESSAGE');
      webSocket = binding;
    } else return err('its manifest has a binding of an unknown operation');
  }
  const { authenticated, audience } = registration;
  if (authenticated && manifest.expectedAudience !== '' && manifest.expectedAudience !== audience)
    return err(
      'it expects credentials of another audience than its registration names; set audience to its own',
    );
  return ok({ http, webSocket });
}

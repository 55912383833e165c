import type { Socket } from 'node:net';
import type { Intent } from '../policy/intent.ts';
import type { Way } from './adapters/way-out.ts';
import { firstBytes } from './first-bytes.ts';
import type { ClientExchange } from './http/client-exchange.ts';
import { createInspectingServer } from './http/inspecting-server.ts';
import { answerText } from './responses.ts';
import type { CertificateAuthority } from './tls/certificate-authority.ts';
import { beginsTls, terminateTls } from './tls/termination.ts';

/** A host that the supervisor is itself: its requests need no policy, and nothing of them leaves but what it sends. */
export interface LocalService {
  /** Lower case. */
  readonly host: string;
  readonly port: number;
  /** Whether it is spoken to over TLS alone. */
  readonly secure: boolean;
  /** Answers one request; a rejection breaks it off. */
  handle(exchange: ClientExchange): Promise<void>;
}

const IDLE_MS = 600_000;

/** The services that this supervisor has. */
export class LocalServices {
  readonly #services: readonly LocalService[];
  readonly #authority: CertificateAuthority | undefined;
  readonly #server = createInspectingServer();

  /** Without an authority what needs TLS is refused. */
  constructor(services: readonly LocalService[], authority: CertificateAuthority | undefined) {
    this.#services = services;
    this.#authority = authority;
  }

  /** The ports at which a name is one of ours. */
  portsOf(host: string): readonly number[] {
    return this.#services.filter((service) => service.host === host).map(({ port }) => port);
  }

  find({ host, port }: Pick<Intent, 'host' | 'port'>): LocalService | undefined {
    return this.#services.find((service) => service.host === host && service.port === port);
  }

  way(service: LocalService): Way {
    return {
      carry: (client, head) => {
        if (head.length > 0) client.unshift(head);
        client.setTimeout(IDLE_MS, () => client.destroy());
        this.#serve(service, client).catch(() => client.destroy());
      },
      abandon: () => undefined,
    };
  }

  close(): void {
    this.#server.close();
  }

  async #serve(service: LocalService, client: Socket): Promise<void> {
    const first = await firstBytes(client);
    if (first === undefined) return void client.destroy();
    const secure = beginsTls(first);
    if (secure !== service.secure) {
      const detail = `${service.host} speaks ${service.secure ? 'https' : 'http'} alone`;
      if (secure) client.destroy();
      else client.end(answerText({ status: 400, error: 'invalid_scheme', detail }));
      return;
    }
    if (!secure) return this.#server.serve(client, serving(service));
    if (this.#authority === undefined) return void client.destroy();
    const secured = await terminateTls(client, service.host, this.#authority, ['h2', 'http/1.1']);
    if (secured.ok) this.#server.serve(secured.value, serving(service));
  }
}

const serving = (service: LocalService) => ({
  exchange: (client: ClientExchange) => service.handle(client),
  closed: () => undefined,
});

/** What the world's server is told when it starts. */
export interface WorldSettings {
  /** The file that records are appended to. */
  readonly records: string;
  readonly key: string;
  readonly certificate: string;
  /** IPv4 addresses of each name. */
  readonly names: Readonly<Record<string, readonly string[]>>;
  readonly dnsAddress: string;
  readonly httpPorts: readonly number[];
  readonly httpsPorts: readonly number[];
  readonly tcpPorts: readonly number[];
  readonly udpAddresses: readonly string[];
  readonly udpPorts: readonly number[];
  /** Connections to this address and port are handed to the world's owner, who is outside. */
  readonly relay?: { readonly host: string; readonly port: number };
}

export interface ControlRequest {
  readonly id: number;
  readonly url: string;
  readonly method: string;
  readonly body?: string;
}

export interface ControlReply {
  readonly id: number;
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly body: string;
}

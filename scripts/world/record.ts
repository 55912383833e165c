/** What arrived in the world: one JSON line each. */
export interface WorldRecord {
  /** ISO 8601. */
  readonly time: string;
  readonly protocol: 'http' | 'https' | 'tcp' | 'udp' | 'dns';
  /** `address:port` that it arrived at. */
  readonly local: string;
  readonly peer: string;
  /** HTTP: the Host header, method and path. */
  readonly host?: string;
  readonly method?: string;
  readonly path?: string;
  /** HTTP: the Authorization field, where there is one. */
  readonly authorization?: string;
  /** DNS: the name asked for. */
  readonly name?: string;
  /** TCP and UDP: the first 200 bytes as Latin-1. */
  readonly text?: string;
}

import { isIP } from 'node:net';

/** What resolv.conf(5) says about how names are looked up. */
export interface ResolvConf {
  /** IP literals, at most 3, as glibc has it. Empty when the file names none. */
  readonly nameservers: readonly string[];
  /** Suffixes without dots at the ends, at most 6. */
  readonly search: readonly string[];
  /** Names with at least this many dots are tried as they are first. */
  readonly ndots: number;
}

const MAX_NAMESERVERS = 3;
const MAX_SEARCH = 6;
const MAX_NDOTS = 15;

/** Reads resolv.conf(5). Of several `search` or `domain` lines the last counts. Malformed lines are skipped. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  let ndots = 1;
  for (const line of text.split('\n', 256)) {
    const [key, ...values] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/);
    const first = values[0];
    if (key === 'nameserver' && first !== undefined && isIP(first) !== 0 && !first.includes('%')) {
      if (nameservers.length < MAX_NAMESERVERS) nameservers.push(first);
    } else if (key === 'search' || key === 'domain') {
      search = values
        .map((suffix) => suffix.toLowerCase().replace(/^\.+|\.+$/g, ''))
        .filter((suffix) => suffix !== '' && suffix.length <= 253)
        .slice(0, key === 'domain' ? 1 : MAX_SEARCH);
    } else if (key === 'options') {
      for (const option of values) {
        const match = /^ndots:([0-9]{1,3})$/.exec(option);
        if (match !== null) ndots = Math.min(Number(match[1]), MAX_NDOTS);
      }
    }
  }
  return { nameservers, search, ndots };
}

/** The names to ask for, in order (resolv.conf(5), `ndots` and `search`). */
export function candidateNames(host: string, conf: ResolvConf): readonly string[] {
  const suffixed = conf.search.map((suffix) => `${host}.${suffix}`).filter((name) => name.length <= 253);
  const dots = host.split('.').length - 1;
  return dots >= conf.ndots ? [host, ...suffixed] : [...suffixed, host];
}

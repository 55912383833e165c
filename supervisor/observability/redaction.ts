import type { OcsfEvent } from './ocsf.ts';

const REDACTED = '[redacted]';
/** Longer texts are cut, so that the search in them has a bound. */
const MAX_CHARACTERS = 8192;

/** What stands behind `Authorization:` and its like. */
const HEADER =
  /\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{0,64}(?:token|key|secret)|api[-_]?key)(["']?\s{0,8}[:=]\s{0,8}["']?)(?:(?:bearer|basic|digest|token|negotiate)\s{1,8})?[^\s"',;\]}]+/gi;
/** A scheme with its credentials, wherever it stands. */
const BEARER = /\b(bearer)\s{1,8}[\w+/=.~:-]{4,}/gi;
/** Other schemes are words of English too: what follows counts only when it does not look like one. */
const SCHEME = /\b([Bb]asic|[Dd]igest|[Nn]egotiate)\s{1,8}(?=[\w+/=.~:-]{0,64}[A-Z0-9=+/])[\w+/=.~:-]{6,}/g;
/** `scheme://user:password@host`. */
const USERINFO = /([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/?#@"']{1,512}@/gi;
/** The query of anything that looks like a URL or the target of a request. */
const QUERY = /(\/[^\s?#"']{0,512}\?)[^\s#"']+/g;
/** Nearly all lines have none of the marks that the patterns need. */
const WORTH_A_LOOK = /[?@:=]|bearer|basic|digest|negotiate/i;

/**
 * A text without what looks like a credential: the second net behind the type Secret, for texts that others wrote.
 * Userinfo and queries of URLs and the values of authorization headers go; the rest stays, up to 8192 characters.
 */
export function redactText(text: string): string {
  const bounded = text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text;
  if (!WORTH_A_LOOK.test(bounded)) return bounded;
  return bounded
    .replaceAll(USERINFO, `$1${REDACTED}@`)
    .replaceAll(QUERY, `$1${REDACTED}`)
    .replaceAll(HEADER, `$1$2${REDACTED}`)
    .replaceAll(BEARER, `$1 ${REDACTED}`)
    .replaceAll(SCHEME, `$1 ${REDACTED}`);
}

/** The event with every text in it redacted. */
export function redactEvent<E extends OcsfEvent>(event: E): E {
  return Object.fromEntries(
    Object.entries(event).map(([key, value]) => [key, typeof value === 'string' ? redactText(value) : value]),
  ) as unknown as E;
}

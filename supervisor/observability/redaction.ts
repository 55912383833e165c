const REDACTED = '[redacted]';

/** What stands behind `Authorization:` and its like, up to the end of the quotation or of the words. */
const HEADER =
  /\b((?:proxy-)?authorization|cookie|set-cookie|x-[\w-]*(?:token|key|secret)|api[-_]?key)(["']?\s*[:=]\s*["']?)(?:(?:bearer|basic|digest|token|negotiate)\s+)?[^\s"',;\]}]+/gi;
/** A scheme with its credentials, wherever it stands. */
const SCHEME = /\b(bearer|basic|digest|negotiate)\s+[\w+/=.~:-]{6,}/gi;
/** `scheme://user:password@host`. */
const USERINFO = /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#@"']+@/gi;
/** The query of anything that looks like a URL or the target of a request. */
const QUERY = /((?:[a-z][a-z0-9+.-]*:\/\/|\/)[^\s?#"']*\?)[^\s#"']+/gi;

/**
 * A text without what looks like a credential: the second net behind the type Secret, for text that others wrote. Userinfo and
 * queries of URLs and the values of authorization headers go; what is left can be read.
 */
export function redactText(text: string): string {
  // Nearly all lines have none of the characters that the patterns need.
  if (!/[?@:=]|bearer|basic|digest|negotiate/i.test(text)) return text;
  return text
    .replaceAll(USERINFO, `$1${REDACTED}@`)
    .replaceAll(QUERY, `$1${REDACTED}`)
    .replaceAll(HEADER, `$1$2${REDACTED}`)
    .replaceAll(SCHEME, `$1 ${REDACTED}`);
}

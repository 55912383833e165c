/** What happened on the way in. */
export type AccessEvent =
  | { readonly kind: 'opened'; readonly auth: string; readonly user: string }
  | { readonly kind: 'closed'; readonly user: string; readonly reason: string | undefined }
  /** Before or instead of a login: a client that is none, or one too many. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'forward-refused'; readonly reason: string };

export type AccessObserver = (event: AccessEvent) => void;

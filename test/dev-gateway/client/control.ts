import { Fault } from '../../../supervisor/fault.ts';

/** The URL that a person means by `--control`, with `http://` or without. */
export function controlUrl(text: string): string {
  const url = URL.parse(/^https?:/.test(text) ? text : `http://${text}`);
  if (url !== null) return url.href;
  throw new Fault('usage', `--control must be http://HOST:PORT, is ${JSON.stringify(text)}`);
}

/** Calls a gateway's control address; resolves with its answer. Rejects with a Fault that says why there is none. */
export async function askControl(
  control: string,
  method: 'GET' | 'POST',
  path: string,
  body?: string,
): Promise<unknown> {
  const init = { method, ...(body === undefined ? {} : { body }) };
  const response = await fetch(new URL(path, control), init).catch(() => {
    throw new Fault(
      'gateway',
      `no gateway’s control answers at ${control}: start one with "npm run gateway -- serve", or name another with --control`,
    );
  });
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  throw new Fault(
    path === '/policy' ? 'policy' : 'gateway',
    reasonOf(text) ?? `HTTP status ${response.status}`,
  );
}

function reasonOf(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    return typeof error === 'string' ? error : undefined;
  } catch {
    return undefined;
  }
}

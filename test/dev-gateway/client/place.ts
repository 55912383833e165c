import type { Argv } from 'yargs';
import { Fault } from '../../../supervisor/fault.ts';

/** Which sandbox of which gateway. */
export interface Place {
  /** host:port. */
  readonly gateway: string;
  /** Empty for the only one that is connected. */
  readonly sandbox: string;
}

const PORT = '8080';

/** The host:port that a person means by `--gateway`: a host, one with a port, or the URL that sandboxes are given. */
export function gatewayPlace(text: string): string {
  const [, host, port = PORT] =
    /^(?:http:\/\/)?(\[[0-9a-f:.]+\]|[^\s:/[\]]+)(?::(\d{1,5}))?\/?$/i.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535)
    throw new Fault('usage', `--gateway must be HOST:PORT or http://HOST:PORT, is ${JSON.stringify(text)}`);
  return `${host}:${port}`;
}

/** The options that say where a command acts. */
export const withPlace = <T>(args: Argv<T>) =>
  args
    .option('gateway', {
      type: 'string',
      default: `127.0.0.1:${PORT}`,
      describe: 'host:port of the gateway',
      coerce: gatewayPlace,
    })
    .option('sandbox', {
      type: 'string',
      default: '',
      describe: 'the sandbox’s id; needed where several are connected',
    });

/** For `coerce`: a whole number within bounds, or what is wrong with it. */
export const wholeNumber =
  (name: string, least: number, most: number) =>
  (value: number): number => {
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new Fault('usage', `${name} must be a whole number from ${least} to ${most}`);
  };

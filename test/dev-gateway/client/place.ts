import type { Argv } from 'yargs';

/** Which sandbox of which gateway. */
export interface Place {
  readonly gateway: string;
  readonly sandbox: string;
}

export const withPlace = <T>(args: Argv<T>) =>
  args
    .option('gateway', { type: 'string', default: '127.0.0.1:8080', describe: 'host:port of the gateway' })
    .option('sandbox', {
      type: 'string',
      default: '',
      describe: 'the sandbox’s id; needed where several are connected',
    });

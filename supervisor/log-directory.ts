import { accessSync, constants } from 'node:fs';
import { isMountPoint } from './state-directory.ts';

/** The contract's place (contract.md, 11). The image's own /var/log is not ours to fill. */
const USUAL = '/var/log';

/** The configured directory, else the usual one where a volume is mounted that takes files. */
export function findLogDirectory(
  configured: string | undefined,
  isMount: (path: string) => boolean = isMountPoint,
): string | undefined {
  if (configured !== undefined) return configured;
  try {
    if (!isMount(USUAL)) return undefined;
    accessSync(USUAL, constants.W_OK | constants.X_OK);
    return USUAL;
  } catch {
    return undefined;
  }
}

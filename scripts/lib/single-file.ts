import { appendFileSync, copyFileSync, readFileSync, rmSync, statSync } from 'node:fs';
import { run } from './command.ts';

/** The trailer's magic, as init/payload.c expects it. */
const MAGIC = 'OSHPAY01';
/** Where the archive begins: a whole page, so that the kernel can copy it out by pages. */
const ALIGNMENT = 4096;

/** Makes a tar whose bytes depend on nothing but names, modes and contents. */
export const reproducibleTar = async (
  archive: string,
  directory: string,
  names: readonly string[],
  seconds: number,
): Promise<void> => {
  const fixed = [
    '--format=ustar',
    '--sort=name',
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    `--mtime=@${seconds}`,
  ];
  await run('tar', ['-C', directory, ...fixed, '-cf', archive, ...names]);
};

/**
 * Makes the single-file form of an image directory: the launcher, then a ustar archive of `lib/` and
 * `supervisor`, then the trailer (format: init/payload.h).
 */
export const packSingleFile = async (imageDirectory: string, file: string): Promise<void> => {
  const archive = `${file}.tar`;
  await reproducibleTar(archive, imageDirectory, ['lib', 'supervisor'], 0);
  rmSync(file, { force: true });
  copyFileSync(`${imageDirectory}/openshell-sandbox`, file);
  await run('chmod', ['0755', file]);
  const launcher = statSync(file).size;
  const offset = Math.ceil(launcher / ALIGNMENT) * ALIGNMENT;
  const trailer = Buffer.alloc(16);
  trailer.write(MAGIC, 'latin1');
  trailer.writeBigUInt64LE(BigInt(offset), 8);
  appendFileSync(file, Buffer.alloc(offset - launcher));
  appendFileSync(file, readFileSync(archive));
  appendFileSync(file, trailer);
  await run('chmod', ['0555', file]);
  rmSync(archive);
};

/** `npm run image`: builds, and makes the OCI image and its archive in `dist/`. */
import { parseArgs } from 'node:util';
import { build } from './lib/build.ts';
import { makeImage } from './lib/image.ts';
import { DIST } from './lib/paths.ts';
import { revision } from './lib/revision.ts';

const { values } = parseArgs({
  options: { entry: { type: 'string' }, out: { type: 'string', default: DIST } },
});
const built = await build({
  out: values.out,
  ...(values.entry === undefined ? {} : { entry: values.entry }),
});
const { digest, archive } = await makeImage(built.image, await revision(), values.out);
console.log(`${archive} ${digest}`);

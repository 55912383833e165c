/**
 * `npm run build`: makes `dist/image/` (the root of the supervisor image) and `dist/openshell-sandbox`
 * (the same in one ELF file).
 */
import { parseArgs } from 'node:util';
import { build } from './lib/build.ts';

const { values } = parseArgs({ options: { entry: { type: 'string' }, out: { type: 'string' } } });
const started = Date.now();
const built = await build({
  ...(values.entry === undefined ? {} : { entry: values.entry }),
  ...(values.out === undefined ? {} : { out: values.out }),
});
console.log(
  `built ${built.image} and ${built.singleFile} in ${((Date.now() - started) / 1000).toFixed(1)} s`,
);

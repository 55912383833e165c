import { Transform } from 'node:stream';
import { MARKER } from './placeholder.ts';

const NEEDLES = [
  Buffer.from(MARKER),
  Buffer.from('openshell%3Aresolve%3Aenv%3A'),
  Buffer.from('openshell%3aresolve%3aenv%3a'),
  Buffer.from('OPENSHELL-RESOLVE-ENV-'),
];
const LONGEST = Math.max(...NEEDLES.map(({ length }) => length));

/**
 * Lets a body through and breaks off when a placeholder is in it, also one that is split over chunks: where bodies
 * are not rewritten none may leave (contract.md, 8.2). Holds back at most as many bytes as a marker has.
 */
export function guardBody(onMarker: () => void): Transform {
  let tail = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const all = tail.length === 0 ? chunk : Buffer.concat([tail, chunk]);
      if (NEEDLES.some((needle) => all.includes(needle))) {
        onMarker();
        done(new Error('a credential placeholder stands in a body that is not rewritten'));
        return;
      }
      const keep = Math.min(all.length, LONGEST - 1);
      tail = Buffer.from(all.subarray(all.length - keep));
      done(null, all.subarray(0, all.length - keep));
    },
    flush(done) {
      done(null, tail);
    },
  });
}

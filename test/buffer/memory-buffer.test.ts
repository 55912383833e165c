import { expect, test } from 'vitest';
import { createMemoryBuffer, DEFAULT_MAX_BYTES } from '../../supervisor/buffer/memory-buffer.ts';
import { describeRecordBuffer, record } from './suite.ts';

describeRecordBuffer('the memory buffer', (maxBytes) => createMemoryBuffer({ boot: 'boot-1', maxBytes }));

test('a memory buffer holds 4 MiB unless told otherwise, and names its boot in every entry', () => {
  const buffer = createMemoryBuffer({ boot: 'boot-1' });
  for (let index = 0; index < 6_000; index += 1) buffer.append('logs', record('z'.repeat(1_000)));
  const { bytes, maxBytes, classes } = buffer.stats();
  expect(maxBytes).toBe(DEFAULT_MAX_BYTES);
  expect(bytes).toBeLessThanOrEqual(DEFAULT_MAX_BYTES);
  expect(bytes).toBeGreaterThan(DEFAULT_MAX_BYTES - 4_096);
  expect(classes.logs.records + classes.logs.lost).toBe(6_000);
  const [gap] = buffer.nextBatch({ maxEntries: 1, maxBytes: 1 })?.entries ?? [];
  expect(gap).toMatchObject({
    type: 'gap',
    boot: 'boot-1',
    first: 1,
    count: classes.logs.lost,
    reason: 'buffer full',
  });
});

test('a memory buffer that could not hold two records is refused', () => {
  expect(() => createMemoryBuffer({ boot: 'boot-1', maxBytes: 1_000 })).toThrow(RangeError);
});

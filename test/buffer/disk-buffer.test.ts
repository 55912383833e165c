import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { describeRecordBuffer } from './suite.ts';

const root = mkdtempSync(join(tmpdir(), 'disk-buffer-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
describeRecordBuffer('the disk buffer', (maxBytes) =>
  openDiskBuffer({
    directory: join(root, `${count++}`),
    boot: 'boot-1',
    sandboxId: 'sb-1',
    clock: new VirtualClock(),
    maxBytes,
    report: (event) => {
      throw new Error(JSON.stringify(event));
    },
  }),
);

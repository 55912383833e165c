import ssh2 from 'ssh2';
import { beforeAll, describe, expect, test } from 'vitest';
import { makeHostKey } from '../../supervisor/access/host-key.ts';

const { utils } = ssh2;

describe('the host key', () => {
  /** A pair as ssh2 makes one in 256. */
  let unreadable: { readonly private: string; readonly public: string };
  beforeAll(() => {
    for (let tries = 0; tries < 20_000; tries++) {
      unreadable = utils.generateKeyPairSync('ed25519');
      if (utils.parseKey(unreadable.private) instanceof Error) return;
    }
    throw new Error('ssh2 makes readable keys alone: makeHostKey need not try again any more');
  });

  test('is never one that the library cannot read', () => {
    const readable = makeHostKey(utils);
    const made = [unreadable.private, unreadable.private, readable];
    const generateKeyPairSync = () => ({ private: made.shift() ?? '', public: '' });
    expect(makeHostKey({ ...utils, generateKeyPairSync })).toBe(readable);
    expect(made).toEqual([]);
  });

  test('is given up with the reason when none can be read', () => {
    expect(() => makeHostKey({ ...utils, generateKeyPairSync: () => unreadable })).toThrow(
      'no readable host key could be made',
    );
  });
});

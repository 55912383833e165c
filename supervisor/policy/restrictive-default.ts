import type { PolicyDocument } from './document.ts';

/** What holds when nobody gave a policy (contract.md, 7.3): system files to read, no network. */
export const RESTRICTIVE_DEFAULT: PolicyDocument = {
  version: 1,
  filesystem: {
    includeWorkdir: true,
    readOnly: ['/usr', '/lib', '/proc', '/dev/urandom', '/app', '/etc', '/var/log'],
    readWrite: ['/tmp', '/dev/null'],
  },
  landlock: 'best_effort',
  process: undefined,
  networkPolicies: {},
  networkMiddlewares: [],
};

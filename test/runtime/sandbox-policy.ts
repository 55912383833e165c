const READ_ONLY = ['/usr', '/bin', '/sbin', '/lib', '/lib64', '/etc', '/proc', '/dev/urandom'];
const READ_WRITE = ['/tmp', '/dev/null'];

/** A policy in YAML under which programs of the test images run; `more` is what it says beyond paths. */
export const sandboxPolicy = (
  more = '',
  paths: { readonly readOnly?: readonly string[]; readonly readWrite?: readonly string[] } = {},
): string => `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [${[...READ_ONLY, ...(paths.readOnly ?? [])].join(', ')}]
  read_write: [${[...READ_WRITE, ...(paths.readWrite ?? [])].join(', ')}]
${more}`;

/** Lets curl reach one host of the test world, over HTTP. */
export const CURL_TO_API = `network_policies:
  api:
    endpoints: [{ host: api.allowed.test, port: 80 }]
    binaries: [{ path: /usr/bin/curl }]
`;

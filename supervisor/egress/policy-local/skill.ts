import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** How an agent asks for more policy. */
export const SKILL = `---
name: policy-advisor
description: Ask for network access that the policy of this sandbox denies
---

# When a request is denied

This sandbox lets through what its policy allows. A denied request is answered with status 403 and a JSON body whose
\`error\` is \`policy_denied\`. The policy does not change because you retry, and there is no way around it. You may propose a
rule; a person, or a setting of the gateway, decides on it.

All routes below are plain HTTP on \`http://policy.local\`, reached through the proxy that the environment names.

1. \`GET /v1/policy/current\` answers \`{"format":"yaml","policy_yaml":"…"}\`.
2. \`GET /v1/denials?last=10\` answers the latest denials, the newest first.
3. \`POST /v1/proposals\` takes one or more rules:

\`\`\`json
{
  "intent_summary": "what you need it for, in one sentence that the reviewer reads",
  "operations": [
    { "addRule": { "ruleName": "example_read", "rule": {
      "endpoints": [ { "host": "api.example.com", "port": 443, "protocol": "rest", "enforcement": "enforce",
        "rules": [ { "allow": { "method": "GET", "path": "/v1/items/**" } } ] } ],
      "binaries": [ { "path": "/usr/bin/curl" } ] } } }
  ]
}
\`\`\`

   It answers 202 with \`accepted_chunk_ids\`. Ask for as little as the task needs: one host, the methods and paths that you
   call, the binary that calls them.
4. \`GET /v1/proposals/<id>/wait?timeout=60\` answers when it was decided: \`status\` is \`approved\` or \`rejected\`, and
   \`policy_reloaded\` says whether the rule is in force. \`timed_out\` means that nobody has decided yet: wait again, or go on
   with something else. A rejection says why; do not propose the same again.
`;

/** Where agents look first; a read-only root leaves the directory that is ours. */
const PLACES = [
  '/etc/openshell/skills/policy_advisor.md',
  '/etc/openshell/skills/policy-advisor/SKILL.md',
] as const;

/**
 * Writes the skill where an agent can read it: at the contract's places (contract.md, 4.6), or else into `directory`.
 * Returns the path, or undefined when it can be written nowhere; `remove` takes away what was written.
 */
export function installSkill(directory: string): { readonly path: string | undefined; remove(): void } {
  const written: string[] = [];
  const write = (path: string, text: string): void => {
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      rmSync(path, { force: true });
      writeFileSync(path, text, { mode: 0o444, flag: 'wx' });
      written.push(path);
    } catch {
      // a read-only root: the next place
    }
  };
  for (const place of PLACES) write(place, SKILL);
  if (written.length === 0) write(join(directory, 'policy_advisor.md'), SKILL);
  const [path] = written;
  return {
    path,
    remove() {
      for (const place of written)
        try {
          rmSync(place, { force: true });
        } catch {
          // it holds nothing secret
        }
    },
  };
}

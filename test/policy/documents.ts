import { describeFault } from '../../supervisor/policy/fault.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

/** The faults of a policy as a person reads them; none when it is valid. */
export const faults = (text: string): readonly string[] => {
  const parsed = parsePolicyYaml(text);
  return parsed.ok ? [] : parsed.error.map(describeFault);
};

/** A policy with one endpoint, given as a YAML flow mapping; it is on line 5, from column 9. */
export const endpoint = (fields: string) =>
  `version: 1\nnetwork_policies:\n  a:\n    endpoints:\n      - ${fields}\n`;

/** A policy that uses everything that the schema knows. */
export const EVERYTHING = `version: 3
filesystem_policy: { include_workdir: true, read_only: [/usr], read_write: [/tmp] }
landlock: { compatibility: hard_requirement }
process: { run_as_user: 1000, run_as_group: sandbox }
network_policies:
  git.hub:
    name: GitHub
    endpoints:
      - host: api.github.test
        ports: [443, 8443]
        protocol: rest
        enforcement: enforce
        path: /api/**
        allow_encoded_slash: true
        request_body_credential_rewrite: true
        websocket_credential_rewrite: true
        credential_binding: { provider: gh }
        allow_uninspected_credentials: true
        rules: [{ allow: { method: GET, path: /**, query: { a: x, b: { any: [y, z] } } } }]
        deny_rules: [{ method: "*", path: /api/secret }]
      - host: graphql.test
        port: 443
        protocol: graphql
        persisted_queries: allow_registered
        graphql_persisted_queries: { h1: { operation_type: query, operation_name: Q, fields: [f] } }
        graphql_max_body_bytes: 1000
        rules: [{ allow: { operation_type: query, operation_name: Q*, fields: [f, g*] } }]
      - host: mcp.test
        port: 443
        protocol: mcp
        mcp: { max_body_bytes: 2000, strict_tool_names: true, allow_all_known_mcp_methods: true }
        rules: [{ allow: { tool: { any: [read_*, list] } } }]
        deny_rules: [{ tool: "" }]
      - host: rpc.test
        port: 443
        protocol: json-rpc
        json_rpc: { max_body_bytes: 3000 }
        rules: [{ allow: { method: eth_call } }]
      - host: s3.test
        port: 443
        protocol: rest
        access: read-write
        credential_signing: sigv4:body
        signing_service: s3
        signing_region: eu-1
      - { port: 5432, allowed_ips: [10.0.0.0/8, "fd00::/8"] }
    binaries: [{ path: /usr/bin/git, harness: true }]
network_middlewares:
  redact:
    name: Redactor
    middleware: openshell/regex
    config: { mode: redact, deep: { list: [1, true, null, x] } }
    on_error: fail_open
    endpoints: { include: ["**"], exclude: [x.test] }
    order: -2
`;

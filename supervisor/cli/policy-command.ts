import yargs from 'yargs';
import { compilePolicy } from '../policy/compilation.ts';
import type { PolicyDocument } from '../policy/document.ts';
import { describeFault, type PolicyFault } from '../policy/fault.ts';
import { normalizeHost } from '../policy/host-pattern.ts';
import type { BodyFacts } from '../policy/request.ts';
import { policyWarnings } from '../policy/warnings.ts';
import { locateFaults, parsePolicyYaml } from '../policy/yaml.ts';
import { err, ok, type Result } from '../result.ts';
import { answerTo, type Question } from './policy-explanation.ts';

/** What the command touches of the world. */
export interface PolicyCommandIo {
  /** The text of a file, `-` being standard input; the error says why there is none. */
  readonly read: (path: string) => Result<string, string>;
  readonly out: (text: string) => void;
  readonly complain: (text: string) => void;
}

const USAGE = `Usage: openshell-sandbox policy check FILE [--json]
       openshell-sandbox policy explain FILE --host HOST --port PORT --binary PATH [--ancestor PATH]…
           [--method METHOD] [--path PATH?QUERY] [--json]
           [--operation-type TYPE [--operation-name NAME] [--field NAME]…]   for graphql
           [--rpc-method NAME [--tool NAME]]                                 for json-rpc and mcp

check says every fault of a policy with its place: exit code 0 when there is none, 1 when there is.
explain says what would happen to a connection, or to a request in it, and which rule says so.
Neither looks a name up or needs a gateway. FILE may be -, standard input. Exit code 2: wrong usage.
`;

const text = { type: 'string', requiresArg: true } as const;
const several = { type: 'string', array: true, nargs: 1 } as const;
const JSON_FLAG = { json: { type: 'boolean' } } as const;
const CHECK_FLAGS = JSON_FLAG;
const EXPLAIN_FLAGS = {
  ...JSON_FLAG,
  host: text,
  port: text,
  binary: text,
  ancestor: several,
  method: text,
  path: text,
  'operation-type': text,
  'operation-name': text,
  field: several,
  'rpc-method': text,
  tool: text,
} as const;

type Values = Readonly<Record<string, unknown>>;

/**
 * `policy check` and `policy explain`: takes the words behind `policy` and returns the exit code, which is
 * 0, 1 for an invalid policy, or 2 for wrong usage.
 */
export function runPolicyCommand(argv: readonly string[], io: PolicyCommandIo): number {
  const [word, ...rest] = argv;
  if (word === '--help' || word === '-h' || rest.includes('--help')) {
    io.out(USAGE);
    return 0;
  }
  if (word !== 'check' && word !== 'explain') return misused('policy needs check or explain', io);
  const parsed = parse(rest, word === 'check' ? CHECK_FLAGS : EXPLAIN_FLAGS);
  if (!parsed.ok) return misused(parsed.error, io);
  const { file, values } = parsed.value;
  if (word === 'check') return check(file, values['json'] === true, io);
  const question = questionOf(values);
  return question.ok
    ? explain(file, question.value, values['json'] === true, io)
    : misused(question.error, io);
}

function misused(message: string, io: PolicyCommandIo): number {
  io.complain(`openshell-sandbox: ${message}\n${USAGE}`);
  return 2;
}

function parse(
  argv: readonly string[],
  flags: typeof CHECK_FLAGS | typeof EXPLAIN_FLAGS,
): Result<{ readonly file: string; readonly values: Values }, string> {
  let failure: string | undefined;
  const values = yargs([...argv])
    .options(flags)
    .help(false)
    .version(false)
    .exitProcess(false)
    .detectLocale(false)
    .strictOptions()
    .parserConfiguration({
      'camel-case-expansion': false,
      'duplicate-arguments-array': false,
      'boolean-negation': false,
      'parse-positional-numbers': false,
      'unknown-options-as-args': false,
    })
    .fail((message, error) => {
      failure = message ?? error?.message ?? 'the flags cannot be read';
    })
    .parseSync() as unknown as Values;
  if (failure !== undefined) return err(failure.replace(/\s+/g, ' ').trim());
  const positional = values['_'];
  const [file, ...more] = Array.isArray(positional) ? positional.map(String) : [];
  if (file === undefined || file === '') return err('FILE is missing');
  if (more.length > 0) return err(`there is one FILE, not also ${more.join(' ')}`);
  return ok({ file, values });
}

function check(file: string, json: boolean, io: PolicyCommandIo): number {
  const source = io.read(file);
  if (!source.ok) return unreadable(source.error, io);
  const parsed = parsePolicyYaml(source.value);
  const faults = parsed.ok ? [] : parsed.error;
  const warnings = parsed.ok ? locateFaults(source.value, policyWarnings(parsed.value)) : [];
  if (json) {
    const report = { valid: parsed.ok, faults: faults.map(plain), warnings: warnings.map(plain) };
    io.out(`${JSON.stringify(report)}\n`);
  } else if (parsed.ok) {
    for (const warning of warnings) io.out(`warning: ${describeFault(warning)}\n`);
    io.out(`${file}: valid: ${summary(parsed.value)}\n`);
  } else {
    for (const fault of faults) io.out(`${describeFault(fault)}\n`);
    io.complain(`openshell-sandbox: ${file} has ${counted(faults.length, 'fault')}\n`);
  }
  return parsed.ok ? 0 : 1;
}

function unreadable(error: string, io: PolicyCommandIo): number {
  io.complain(`openshell-sandbox: ${error}\n`);
  return 2;
}

const plain = ({ path, line, column, message }: PolicyFault) => ({ path, line, column, message });

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

function summary(document: PolicyDocument): string {
  const rules = Object.values(document.networkPolicies);
  const endpoints = rules.flatMap((rule) => rule.endpoints);
  const inspected = endpoints.filter(({ protocol }) => protocol !== 'opaque' && protocol !== 'tcp');
  return [
    `version ${document.version}`,
    counted(rules.length, 'network rule'),
    `${counted(endpoints.length, 'endpoint')} (${inspected.length} with request rules)`,
    counted(document.networkMiddlewares.length, 'middleware'),
  ].join(', ');
}

function questionOf(values: Values): Result<Question, string> {
  const get = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const list = (name: string): readonly string[] => {
    const value = values[name];
    return Array.isArray(value) ? value.map(String) : [];
  };
  const [host, port, binary] = [get('host'), get('port'), get('binary')];
  if (host === undefined || host === '') return err('--host is missing');
  if (port === undefined) return err('--port is missing');
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
    return err(`--port must be a number from 1 to 65535, is "${port}"`);
  if (binary === undefined || binary === '') return err('--binary is missing');
  const body = bodyOf(get, list('field'));
  if (!body.ok) return body;
  const [method, path] = [get('method'), get('path')];
  const asked = method !== undefined || path !== undefined || body.value !== undefined;
  const silent = body.value === undefined ? 'GET' : 'POST';
  return ok({
    host: normalizeHost(host.replace(/^\[(.*)\]$/, '$1')),
    port: Number(port),
    binary,
    ancestors: list('ancestor'),
    request: asked ? { method: method ?? silent, target: path ?? '/' } : undefined,
    body: body.value,
  });
}

function bodyOf(
  get: (name: string) => string | undefined,
  fields: readonly string[],
): Result<BodyFacts | undefined, string> {
  const [type, name, rpc, tool] = [
    get('operation-type'),
    get('operation-name'),
    get('rpc-method'),
    get('tool'),
  ];
  if (type !== undefined) {
    if (type !== 'query' && type !== 'mutation' && type !== 'subscription')
      return err(`--operation-type must be query, mutation or subscription, is "${type}"`);
    return ok({ kind: 'graphql', operations: [{ type, name: name ?? '', fields }] });
  }
  if (name !== undefined || fields.length > 0)
    return err('--operation-name and --field need --operation-type');
  const method = rpc ?? (tool === undefined ? undefined : 'tools/call');
  if (method === undefined) return ok(undefined);
  return ok({
    kind: 'json-rpc',
    calls: [{ method, ...(tool === undefined ? {} : { tool }) }],
    hasResponse: false,
  });
}

function explain(file: string, question: Question, json: boolean, io: PolicyCommandIo): number {
  const source = io.read(file);
  if (!source.ok) return unreadable(source.error, io);
  const parsed = parsePolicyYaml(source.value);
  if (!parsed.ok) {
    for (const fault of parsed.error) io.complain(`${describeFault(fault)}\n`);
    const faults = counted(parsed.error.length, 'fault');
    io.complain(`openshell-sandbox: ${file} has ${faults}; with it everything is denied\n`);
    return 1;
  }
  const answer = answerTo(question, compilePolicy(parsed.value, { generation: 1 }));
  if (json) io.out(`${JSON.stringify(answer)}\n`);
  else
    io.out(
      [
        answer.decision,
        `  policy  ${answer.policy ?? '-'}`,
        `  rule    ${answer.rule ?? '-'}`,
        `  reason  ${answer.reason}`,
        '',
      ].join('\n'),
    );
  return 0;
}

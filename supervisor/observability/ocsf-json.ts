import type { OcsfEvent, Severity } from './ocsf.ts';

/** OCSF 1.8.0: numbers of classes, categories, activities and enumerations (schema.ocsf.io). */
const VERSION = '1.8.0';
const PRODUCT = 'OpenShell Sandbox Supervisor';
const SEVERITY: Readonly<Record<Severity, readonly [number, string]>> = {
  info: [1, 'Informational'],
  low: [2, 'Low'],
  medium: [3, 'Medium'],
  high: [4, 'High'],
  critical: [5, 'Critical'],
  fatal: [6, 'Fatal'],
};
const CLASS = {
  network: [4001, 'Network Activity', 4, 'Network Activity'],
  http: [4002, 'HTTP Activity', 4, 'Network Activity'],
  ssh: [4007, 'SSH Activity', 4, 'Network Activity'],
  process: [1007, 'Process Activity', 1, 'System Activity'],
  finding: [2004, 'Detection Finding', 2, 'Findings'],
  lifecycle: [6002, 'Application Lifecycle', 6, 'Application Activity'],
  config: [5019, 'Device Config State Change', 5, 'Discovery'],
  api: [6003, 'API Activity', 6, 'Application Activity'],
  base: [0, 'Base Event', 0, 'Uncategorized'],
} as const;
const ACTION = { ALLOWED: [1, 'Allowed'], DENIED: [2, 'Denied'], OBSERVED: [3, 'Observed'] } as const;
const DISPOSITION = { ALLOWED: [1, 'Allowed'], DENIED: [2, 'Blocked'], OBSERVED: [15, 'Detected'] } as const;
const NETWORK_ACTIVITY = { OPEN: 1, CLOSE: 2, FAIL: 4, REFUSE: 5 } as const;
const HTTP_ACTIVITY: Readonly<Record<string, number>> = {
  CONNECT: 1,
  DELETE: 2,
  GET: 3,
  HEAD: 4,
  OPTIONS: 5,
  POST: 6,
  PUT: 7,
  TRACE: 8,
  PATCH: 9,
};
const OTHER = 99;

/** Where an event happens, for the parts that every event has. */
export interface OcsfPlace {
  readonly sandboxId: string;
  readonly sandboxName: string;
  readonly version: string;
  readonly image: string | undefined;
  readonly hostname: string;
}

/** An event as the object that a line of the JSON log holds (contract.md, 11). `at` is milliseconds since the epoch. */
export function ocsfJson(event: OcsfEvent, at: number, place: OcsfPlace): Readonly<Record<string, unknown>> {
  const [classUid, className, categoryUid, categoryName] = CLASS[event.class];
  const [severityId, severity] = SEVERITY[event.severity];
  const [activityId, activityName] = activityOf(event);
  return {
    class_uid: classUid,
    class_name: className,
    category_uid: categoryUid,
    category_name: categoryName,
    activity_id: activityId,
    activity_name: activityName,
    type_uid: classUid * 100 + activityId,
    type_name: `${className}: ${activityName}`,
    time: at,
    severity_id: severityId,
    severity,
    metadata: {
      version: VERSION,
      product: { name: PRODUCT, vendor_name: 'OpenShell', version: place.version },
      profiles: ['security_control', 'container', 'host'],
      uid: place.sandboxId,
    },
    device: { hostname: place.hostname, os: { name: 'Linux', type: 'Linux', type_id: 200 }, type_id: 0 },
    container: {
      name: place.sandboxName,
      uid: place.sandboxId,
      ...(place.image === undefined ? {} : { image: { name: place.image } }),
    },
    ...detailsOf(event),
  };
}

function activityOf(event: OcsfEvent): readonly [number, string] {
  switch (event.class) {
    case 'network':
      return [NETWORK_ACTIVITY[event.activity], capital(event.activity)];
    case 'http':
      return [HTTP_ACTIVITY[event.method] ?? OTHER, event.method];
    case 'ssh':
      return event.activity === 'OPEN'
        ? [1, 'Open']
        : event.activity === 'CLOSE'
          ? [2, 'Close']
          : [4, 'Fail'];
    case 'process':
      return event.activity === 'LAUNCH' ? [1, 'Launch'] : [2, 'Terminate'];
    case 'finding':
      return [1, 'Create'];
    case 'lifecycle':
      return event.activity === 'START' ? [3, 'Start'] : [4, 'Stop'];
    case 'config':
      return [1, 'Log'];
    case 'api':
      return [OTHER, 'Inference'];
    case 'base':
      return [OTHER, 'Other'];
  }
}

function detailsOf(event: OcsfEvent): Readonly<Record<string, unknown>> {
  switch (event.class) {
    case 'network':
      return {
        ...verdict(event.action, event.reason),
        ...actor(event.process),
        dst_endpoint: endpoint(event.host, event.port),
        ...rule(event.policy, event.engine),
      };
    case 'http':
      return {
        ...verdict(event.action, event.reason),
        ...actor(event.process),
        http_request: { http_method: event.method, url: { url_string: event.url } },
        ...rule(event.policy, 'l7'),
      };
    case 'ssh':
      return { ...verdict(event.action, event.reason), src_endpoint: { name: event.peer } };
    case 'process':
      return {
        process: { name: event.name, pid: event.pid },
        ...(event.exitCode === undefined ? {} : { exit_code: event.exitCode }),
      };
    case 'finding':
      return {
        message: event.title,
        disposition_id: 15,
        disposition: 'Detected',
        finding_info: { title: event.title, uid: event.type, types: [event.type] },
      };
    case 'lifecycle':
      return {
        app: { name: event.app },
        status_id: event.status === 'SUCCESS' ? 1 : 2,
        status: capital(event.status),
      };
    case 'config':
      return {
        message: event.message,
        state: event.state,
        unmapped: { version: event.version, hash: event.hash },
      };
    case 'api':
      return {
        status_id: event.status < 400 ? 1 : 2,
        status: event.status < 400 ? 'Success' : 'Failure',
        status_code: String(event.status),
        api: { operation: event.operation },
        ai_model: { name: event.model, ai_provider: event.provider },
        duration: event.durationMs,
      };
    case 'base':
      return { message: event.message };
  }
}

function verdict(action: keyof typeof ACTION, reason: string | undefined): Readonly<Record<string, unknown>> {
  return {
    action_id: ACTION[action][0],
    action: ACTION[action][1],
    disposition_id: DISPOSITION[action][0],
    disposition: DISPOSITION[action][1],
    status_id: action === 'DENIED' ? 2 : 1,
    ...(reason === undefined ? {} : { status_detail: reason }),
  };
}

const actor = (process: { readonly name: string; readonly pid: number } | undefined) =>
  process === undefined ? {} : { actor: { process: { name: process.name, pid: process.pid } } };

const endpoint = (host: string, port: number) =>
  /^[0-9.]+$|:/.test(host) ? { ip: host, port } : { hostname: host, domain: host, port };

const rule = (policy: string | undefined, engine: string) =>
  policy === undefined ? {} : { firewall_rule: { name: policy, type: engine } };

const capital = (word: string): string => word.charAt(0) + word.slice(1).toLowerCase();

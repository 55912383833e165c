import type { MiddlewareConfig, PolicyDocument } from './document.ts';
import { faultAt, type PolicyFault, placeText } from './fault.ts';
import { compileHostPattern, hostsOverlap, isHostGlob, selectorFault } from './host-pattern.ts';

const MAX_CONFIGS = 10;
const MAX_PATTERNS = 32;

/** Checks the middlewares: how many, in which order, for which hosts (contract.md, 7.2). */
export function checkMiddlewares(document: PolicyDocument): readonly PolicyFault[] {
  const { networkMiddlewares: configs } = document;
  const faults: PolicyFault[] = [];
  if (configs.length > MAX_CONFIGS)
    faults.push(faultAt(['network_middlewares'], `has more than ${MAX_CONFIGS} entries`));
  const orders = new Map<number, string>();
  for (const config of configs) {
    const at = ['network_middlewares', config.key];
    const first = orders.get(config.order);
    if (first === undefined) orders.set(config.order, config.key);
    else
      faults.push(
        faultAt([...at, 'order'], `is ${config.order}, as that of ${first}; which runs first must be clear`),
      );
    if (config.middleware === '') faults.push(faultAt([...at, 'middleware'], 'must not be empty'));
    const selector = checkSelector(config);
    faults.push(...selector);
    if (selector.length === 0 && config.onError === 'fail_closed')
      faults.push(...checkSkipped(document, config));
  }
  return faults;
}

function checkSelector(config: MiddlewareConfig): readonly PolicyFault[] {
  const at = ['network_middlewares', config.key, 'endpoints'];
  if (config.include.length === 0) return [faultAt([...at, 'include'], 'must name at least one host')];
  if (config.include.length + config.exclude.length > MAX_PATTERNS)
    return [faultAt(at, `has more than ${MAX_PATTERNS} patterns`)];
  const check = (name: string, patterns: readonly string[]): readonly PolicyFault[] =>
    patterns.flatMap((pattern, index) => {
      const message = selectorFault(pattern);
      return message === undefined ? [] : [faultAt([...at, name, index], message)];
    });
  return [...check('include', config.include), ...check('exclude', config.exclude)];
}

/** What must pass through a middleware cannot go to an endpoint whose bytes nobody looks at. */
function checkSkipped(document: PolicyDocument, config: MiddlewareConfig): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  for (const [key, rule] of Object.entries(document.networkPolicies))
    for (const [index, endpoint] of rule.endpoints.entries()) {
      if (endpoint.tls !== 'skip' || endpoint.host === '' || !maySelect(config, endpoint.host)) continue;
      const middleware = placeText(['network_middlewares', config.key]);
      faults.push(
        faultAt(
          ['network_policies', key, 'endpoints', index, 'tls'],
          `skip leaves nothing for ${middleware} to look at, which fails closed; exclude the host there`,
        ),
      );
    }
  return faults;
}

function maySelect({ include, exclude }: MiddlewareConfig, host: string): boolean {
  return include.some((pattern) => {
    if (!hostsOverlap(pattern, host)) return false;
    // A concrete host in both is the whole overlap; between two globs only an equal exclusion covers it.
    const concrete = [host, pattern].find((one) => !isHostGlob(one))?.toLowerCase();
    return !exclude.some((excluded) =>
      concrete === undefined
        ? ['**', pattern, host].includes(excluded)
        : compileHostPattern(excluded)(concrete),
    );
  });
}

/** A middleware in a process of its own, for containers: host and port are its arguments. Prints each request's body. */
import { ExistingHeaderAction } from '../../proto/generated/openshell/middleware/v1/middleware.ts';
import { ALLOW, DENY, startService } from '../egress/middleware/service-fixture.ts';

const [host = '', port = ''] = process.argv.slice(2);
await startService({
  host,
  port: Number(port),
  evaluate({ body, context }) {
    console.log(
      JSON.stringify({ body: body.toString(), sandbox: context?.sandboxId, workspace: context?.workspace }),
    );
    if (body.includes('forbidden')) return { ...DENY, reasonCode: 'word' };
    const write = {
      name: 'x-openshell-middleware-seen',
      value: 'yes',
      onExisting: ExistingHeaderAction.EXISTING_HEADER_ACTION_OVERWRITE,
    };
    return { ...ALLOW, headerMutations: [{ operation: { $case: 'write', value: write } }] };
  },
});
console.log('listening');

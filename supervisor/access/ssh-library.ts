/** ssh2 as the SSH server uses it. The build keeps this file as a text until it is imported (scripts/lib/executable.ts). */
import ssh2 from 'ssh2';
import handlers from 'ssh2/lib/protocol/handlers.js';

export { handlers, ssh2 };

/** As a program that SIGPIPE has killed, and as sysexits.h has it for any other trouble with output. */
const UNREAD = 141;
const UNWRITTEN = 74;

/** Ends this process when what it prints can no longer be written, and quietly where nobody reads it any more (`| head`). */
export function endWhenUnread(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(UNREAD);
      if (stream === process.stdout)
        process.stderr.write(`dev-gateway: the output cannot be written: ${error.message}\n`);
      process.exit(UNWRITTEN);
    });
}

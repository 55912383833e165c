/**
 * A listener too many is a leak, or a line on the standard error of every sandbox: the test that caused it fails. Node
 * tells of it once for each emitter, between tests as well.
 */
process.on('warning', (warning) => {
  if (warning.name === 'MaxListenersExceededWarning') throw warning;
});

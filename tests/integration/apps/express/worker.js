'use strict';
// Works without a port: a line at its start, then it waits for its end.
console.log(`worker started, PORT=${process.env.PORT ?? 'unset'}`);
process.on('SIGTERM', () => {
  console.log('worker got SIGTERM');
  process.exit(0);
});
setInterval(() => {}, 1 << 30);

'use strict';
// Does not go when told to: R12.
process.on('SIGTERM', () => console.log('ignoring SIGTERM'));
console.log('stubborn started');
setInterval(() => {}, 1 << 30);

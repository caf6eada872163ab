'use strict';
// Runs, and never listens.
console.log('deaf started');
setInterval(() => {}, 1 << 30);

'use strict';
// The platform's contract as an app sees it: what it was given, and ways to make it end.
const express = require('express');
const fs = require('fs');
const { spawn } = require('child_process');

const app = express();
const hog = [];

app.get('/', (req, res) => res.type('text').send(`express ${process.env.DYNO}\n`));
app.get('/env', (req, res) => res.json(process.env));
app.get('/pid', (req, res) => res.json({ pid: process.pid, cwd: process.cwd() }));
app.get('/exit/:status', (req, res) => {
  res.on('close', () => process.exit(Number(req.params.status)));
  res.send('bye\n');
});
app.get('/kill', (req, res) => {
  res.on('close', () => process.kill(process.pid, 'SIGKILL'));
  res.send('bye\n');
});
app.get('/write/:name', (req, res) => {
  fs.writeFileSync(`/app/${req.params.name}`, 'written by a dyno\n');
  res.json({ files: fs.readdirSync('/app') });
});
app.get('/files', (req, res) => res.json({ files: fs.readdirSync('/app') }));
app.get('/log/:text', (req, res) => {
  console.log(`out ${req.params.text}`);
  console.error(`err ${req.params.text}`);
  res.send('logged\n');
});
// Memory that is really used, in MB; it stays.
app.get('/eat/:mb', (req, res) => {
  for (let i = 0; i < Number(req.params.mb); i++) hog.push(Buffer.alloc(1 << 20, i + 1));
  res.json({ mb: hog.length });
});
// A grandchild in a session of its own: a stop has to reach it too.
app.get('/daemon', (req, res) => {
  const child = spawn('bash', ['-c', 'trap "" HUP; exec sleep 3600'], { detached: true, stdio: 'ignore' });
  child.unref();
  res.json({ pid: child.pid });
});
app.use((error, req, res, next) => {
  console.error(error.message);
  res.status(500).send(`${error.message}\n`);
});

const server = app.listen(process.env.PORT, '0.0.0.0', (error) => {
  if (error) throw error;
  console.log(`listening on ${process.env.PORT}`);
});
process.on('SIGTERM', () => {
  console.log('got SIGTERM');
  server.closeAllConnections();
  server.close(() => process.exit(0));
});

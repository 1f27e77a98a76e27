'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const redis = require('redis-client');

const LOGS = path.join(__dirname, 'logs');

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

async function goal(request) {
  return ((await body(request)).get('goal') || '').replace(/\s+/g, ' ').trim();
}

const ANSWERS = {
  'GET /goals': async () => ({ goals: await redis('LRANGE', 'goals', '0', '-1') }),
  'POST /goals': async (request) => ({ stored: await redis('RPUSH', 'goals', await goal(request)) }),
  'DELETE /goals': async (request) => ({ removed: await redis('LREM', 'goals', '1', await goal(request)) }),
};

async function serve(request, response) {
  const asked = `${request.method} ${request.url}`;
  fs.appendFileSync(path.join(LOGS, 'access.log'), `${asked}\n`);
  const answer = ANSWERS[asked];
  const [status, document] = answer
    ? await answer(request).then((found) => [200, found], (error) => [502, { error: error.code || error.message }])
    : [404, { error: 'no such page' }];
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(`${JSON.stringify(document)}\n`);
}

fs.mkdirSync(LOGS, { recursive: true });
http.createServer(serve).listen(80);

process.on('SIGTERM', () => process.exit(0)); // process 1 has no default for signals

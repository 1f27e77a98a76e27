'use strict';

const http = require('node:http');
const redis = require('redis-client');

const { FILMS_URL, PORT = 80 } = process.env;

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

const oneLine = (text) => text.replace(/\s+/g, ' ').trim();

const ANSWERS = {
  'GET /films': async () => (await fetch(FILMS_URL)).json(),
  'GET /favourites': async () => redis('LRANGE', 'favourites', '0', '-1'),
  'POST /favourites': async (request) => {
    await redis('RPUSH', 'favourites', oneLine((await body(request)).get('title') || ''));
    return 'stored';
  },
};

// What could not be reached is told; "cause" is where fetch has the reason.
const reason = (error) => ({ error: (error.cause || error).code || error.message });

async function serve(request, response) {
  const answer = ANSWERS[`${request.method} ${request.url}`];
  const [status, document] = answer
    ? await answer(request).then((found) => [200, found], (error) => [502, reason(error)])
    : [404, reason({ code: 'no such page' })];
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(`${JSON.stringify(document)}\n`);
}

http.createServer(serve).listen(PORT);

process.on('SIGTERM', () => process.exit(0)); // process 1 has no default for signals

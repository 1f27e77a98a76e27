'use strict';

const http = require('node:http');
const escapeText = require('escape-text');

const PORT = 80;
let goal = 'Learn containers';

const page = () => `<h1>My goal: ${escapeText(goal)}</h1>
<form method="post" action="/goal"><input name="goal"><button>Set it</button></form>
`;

function setGoal(request, response) {
  let body = '';
  request.on('data', (part) => { body += part; });
  request.on('end', () => {
    goal = new URLSearchParams(body).get('goal') || goal;
    response.writeHead(303, { Location: '/' }).end();
  });
}

http.createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/goal') return setGoal(request, response);
  return response.writeHead(200, { 'Content-Type': 'text/html' }).end(page());
}).listen(PORT);

// Process 1 has no default for signals: without this, stopping it takes ten seconds.
process.on('SIGTERM', () => process.exit(0));

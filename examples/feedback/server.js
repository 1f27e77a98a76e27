'use strict';

const fs = require('node:fs/promises');
const http = require('node:http');
const path = require('node:path');
const fileName = require('file-name');

const PORT = process.env.PORT || 80;
const KEPT = path.join(__dirname, 'feedback');
const TEMPORARY = path.join(__dirname, 'temp');

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

// A draft becomes a feedback when it is whole. It is copied, since the two directories may be two file systems.
async function create(request) {
  const form = await body(request);
  const name = fileName(form.get('title') || 'untitled');
  const draft = path.join(TEMPORARY, name);
  await fs.writeFile(draft, `${form.get('text') || ''}\n`);
  await fs.copyFile(draft, path.join(KEPT, name), fs.constants.COPYFILE_EXCL);
  await fs.unlink(draft);
  return [201, `saved as ${name}\n`];
}

async function answer(request) {
  if (request.method === 'POST' && request.url === '/create') return create(request);
  if (request.url.startsWith('/feedback/')) {
    return [200, await fs.readFile(path.join(KEPT, path.basename(request.url)))];
  }
  // Read anew for each request: with the source mounted, a change shows at once.
  return [200, await fs.readFile(path.join(__dirname, 'pages', 'index.html'))];
}

const WORDS = { ENOENT: [404, 'no such feedback\n'], EEXIST: [409, 'there is one of this title\n'] };

async function serve(request, response) {
  const [code, text] = await answer(request).catch((error) => WORDS[error.code] || [500, `${error.message}\n`]);
  response.writeHead(code).end(text);
}

async function main() {
  await Promise.all([KEPT, TEMPORARY].map((directory) => fs.mkdir(directory, { recursive: true })));
  http.createServer(serve).listen(PORT);
}

process.on('SIGTERM', () => process.exit(0)); // process 1 has no default for signals
main();

'use strict';

const net = require('node:net');

const { DB_HOST = 'database', DB_PORT = 6379, DB_USER, DB_PASSWORD } = process.env;

const encode = (words) => `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

// Takes one reply from the front of the lines. What is stored here never has a line's end in it.
function decode(lines) {
  const [kind, rest] = [lines[0][0], lines.shift().slice(1)];
  if (kind === '-') throw new Error(rest);
  if (kind === '*') return Array.from({ length: Number(rest) }, () => decode(lines));
  return kind === '$' ? lines.shift() : rest;
}

// Each command has a connection of its own, so that a database may go away and come back under another address.
module.exports = (...command) => new Promise((resolve, reject) => {
  const socket = net.connect(DB_PORT, DB_HOST);
  let text = '';
  socket.setEncoding('utf8').on('error', reject).on('data', (part) => { text += part; });
  socket.on('end', () => {
    try {
      const lines = text.split('\r\n');
      decode(lines); // of the login, which throws if it is refused
      resolve(decode(lines));
    } catch (error) {
      reject(error);
    }
  });
  socket.write([['AUTH', DB_USER, DB_PASSWORD], command, ['QUIT']].map(encode).join(''));
});

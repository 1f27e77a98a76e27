'use strict';

const NAMES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

module.exports = (text) => text.replace(/[&<>"]/g, (letter) => NAMES[letter]);

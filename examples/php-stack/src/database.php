<?php

// A file of its own for what the pages and the tasks both need: a connection, with settings from the environment.

declare(strict_types=1);

return new PDO(
    'mysql:host=database;dbname=' . getenv('DB_NAME'),
    getenv('DB_USER'),
    getenv('DB_PASSWORD'),
    [PDO::ATTR_TIMEOUT => 5],
);

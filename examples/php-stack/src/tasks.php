<?php

// The tasks of somebody who looks after the application: php tasks.php migrate|count

declare(strict_types=1);

const PATIENCE_S = 60;

// A name that is known is not yet a database that answers: a new one makes its files first.
function database(): PDO
{
    for ($deadline = time() + PATIENCE_S; ; usleep(100_000)) {
        try {
            return require __DIR__ . '/database.php';
        } catch (PDOException $error) {
            if (time() > $deadline) {
                throw $error;
            }
        }
    }
}

$tasks = [
    'migrate' => function (PDO $database): string {
        $database->exec('CREATE TABLE IF NOT EXISTS entries (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200))');
        return 'the table is there';
    },
    'count' => fn (PDO $database): string => (string) $database->query('SELECT COUNT(*) FROM entries')->fetchColumn(),
];

$task = $tasks[$argv[1] ?? ''] ?? null;
if ($task === null) {
    fwrite(STDERR, 'tasks: ' . implode(', ', array_keys($tasks)) . "\n");
    exit(2);
}
echo $task(database()), "\n";

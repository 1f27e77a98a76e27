<?php

declare(strict_types=1);

use Course\Page\Page;

require __DIR__ . '/../vendor/autoload.php';

$database = require __DIR__ . '/../database.php';

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $database->prepare('INSERT INTO entries (text) VALUES (?)')->execute([$_POST['entry'] ?? '']);
    header('Location: /', true, 303);
    exit;
}

$entries = $database->query('SELECT text FROM entries ORDER BY id')->fetchAll(PDO::FETCH_COLUMN);
echo Page::render('Guest book', $entries);

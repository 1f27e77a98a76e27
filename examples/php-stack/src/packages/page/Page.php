<?php

declare(strict_types=1);

namespace Course\Page;

final class Page
{
    /** @param iterable<string> $entries */
    public static function render(string $title, iterable $entries): string
    {
        $items = '';
        foreach ($entries as $entry) {
            $items .= '<li>' . htmlspecialchars($entry) . "</li>\n";
        }
        return "<h1>$title</h1>\n<form method=\"post\"><input name=\"entry\"><button>Sign</button></form>\n$items";
    }
}

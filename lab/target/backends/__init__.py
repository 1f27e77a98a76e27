"""One file per way of isolating; the only place that knows peers' command lines."""

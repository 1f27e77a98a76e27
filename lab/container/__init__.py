"""Our container engine; knows nothing of targets, benches or guests."""

"""One file per workload: what runs inside a target, and which samples come of it."""

"""Records in, pictures out; never runs a target, never names a backend."""

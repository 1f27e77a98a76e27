"""The measuring house: suites, schedule, harness, records, statistics; names no backend."""

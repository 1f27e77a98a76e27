"""The suites that we ship, as TOML files."""

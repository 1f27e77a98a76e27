"""One file per instrument: what the host sees while a target runs."""

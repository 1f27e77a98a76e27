"""The one abstraction: everything that isolates is a Target."""

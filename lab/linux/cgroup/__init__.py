"""Control groups: which layout this host has, and interface files to typed values."""

"""Registries: where images come from and go to, by the OCI distribution specification."""

"""Compose: systems of several containers from one file, as the compose specification describes them."""

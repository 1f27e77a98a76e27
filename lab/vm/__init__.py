"""Guests through libvirt; knows nothing of targets, benches or containers."""

"""Machines: guests that are run from images as containers are, and kept on disk; above the engine and the guests."""

"""Floats in, frozen results out; no pandas, no files."""

"""The OCI documents, field for field."""

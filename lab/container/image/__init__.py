"""Image names, and images made from Debian packages."""

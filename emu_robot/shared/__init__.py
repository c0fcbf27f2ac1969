"""Tools for all packages: files, progress, parallel work, pages, version. Knows no robots."""

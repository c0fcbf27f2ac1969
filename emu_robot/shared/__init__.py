"""What every room may use: files, progress, parallel work, pages, and which version this is. Knows no robots."""

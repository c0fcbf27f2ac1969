"""The networks, the statistics that scale their numbers, and the files of both."""

"""The networks, the statistics that their numbers are scaled by, and the files that hold both."""

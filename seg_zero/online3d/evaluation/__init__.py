"""The truth of scans as the data sets annotate it."""

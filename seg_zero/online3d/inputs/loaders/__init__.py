"""RGB-D sequences on disk, in the layouts of the data sets, to frames."""

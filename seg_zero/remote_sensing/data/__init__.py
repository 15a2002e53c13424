"""Labelled aerial tiles: the eight data sets of OVRSISBench, folders of one's own, their check."""

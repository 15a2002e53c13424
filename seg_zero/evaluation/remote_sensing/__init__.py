"""OVRSISBench: label maps of aerial tiles judged on its data sets, and the table of the paper with our rows."""

"""The page of a scan: a point cloud to turn around, and its instances."""

"""Questions about the objects of a scan, which masks in its frames decide; names for them, which vectors decide."""

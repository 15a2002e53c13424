"""Tiles with a georeference: reading in windows, labelling, GeoTIFF and polygons."""

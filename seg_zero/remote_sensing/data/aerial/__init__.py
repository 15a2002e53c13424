"""A synthetic aerial world: fields, roads, roofs, trees, water and cars in any orientation, seen by two sensors."""

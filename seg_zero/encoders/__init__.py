"""Image and text to vectors: frozen encoders, their templates and caches. Knows no task."""

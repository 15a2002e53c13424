"""What comes out of a scan: instances, files, and the objects as key frames show them."""

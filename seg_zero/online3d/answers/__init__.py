"""Questions about the objects of a scan: which frames to ask about, and how masks in them vote."""

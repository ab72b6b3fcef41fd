"""Who is there: scans of a bus, and what follows from them."""

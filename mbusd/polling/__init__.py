"""The meters of one bus and all asking of them, between which there is room for scans and writes."""

"""What the world sees of a reading."""

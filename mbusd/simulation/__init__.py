"""What simulated meters and their wire do; they share no code with the master that they test."""

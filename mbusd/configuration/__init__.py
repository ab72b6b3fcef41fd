"""The shapes of the configuration and of profiles, and what to say of what does not fit them."""

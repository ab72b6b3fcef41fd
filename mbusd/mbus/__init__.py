"""The protocol, pure: no clock, socket or logger below this line."""

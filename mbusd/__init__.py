"""mbusd: an M-Bus master daemon. The version, and nothing else, in any `__init__`."""

__version__ = "0.1.0"

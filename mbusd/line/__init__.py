"""An open port: how it is opened, what is heard on it, its times, and the bus behind it served on."""

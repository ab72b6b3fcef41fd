"""From records to what people read: keys, units, shapes, and the quick way there. Pure."""

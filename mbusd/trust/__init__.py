"""What is believed of what meters say: counters that fall or leap, telegrams that came damaged."""

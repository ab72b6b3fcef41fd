"""When a meter is read: schedules, budgets, and what the wire can carry. Pure."""

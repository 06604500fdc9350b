"""What will be done: discovery, decisions, units, and the plan as a file."""

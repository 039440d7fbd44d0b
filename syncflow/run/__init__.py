"""How a run works: not public."""

"""Ways to look at a trajectory: the explorer, reports and animations."""

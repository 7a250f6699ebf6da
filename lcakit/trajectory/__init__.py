"""What a trajectory is: its schema, labels, selections and joins. NumPy and xarray only."""

"""Bytes: trajectories opened, checked, written and merged, in netCDF, Zarr and segments, on disk and behind URLs."""

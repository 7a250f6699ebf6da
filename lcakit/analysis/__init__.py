"""Studies of a trajectory: functions from a Dataset to a labelled, lazy DataArray.

Every function works on one run or on a ``run`` dimension, on NumPy or Dask data and on any chunking, and
computes nothing before it is asked to. xarray and Dask only: no torch, no plotting.
"""

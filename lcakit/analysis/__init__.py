"""Studies of a trajectory: functions from a Dataset to a labelled, lazy DataArray.

Every function works on one run or on a ``run`` dimension, on NumPy or Dask data and on any chunking, and
computes nothing before it is asked to. xarray and Dask only: no torch, no plotting.

**Missing numbers.** NaN is a number that is not there: damaged, or of an iteration that a run does not have (when runs
of different lengths are put together, the shorter ones are padded). No study takes it for zero:

1. What adds numbers up (a sum over a group, a window or the run so far, a mean or an extreme of numbers) is NaN where
   one of them is missing.
2. What counts numbers counts those that are there, and a fraction is of these: a missing number neither helps nor hurts
   nor is zero, it is no turn, no peak and no activity, nor does it hide one. T is the number of iterations that are
   there, never the padded size. A fraction of no numbers is NaN.
3. What can be neither, a label of an iteration, is an error that names ``lk.runs.align``; its ``align="shortest"``
   keeps the iterations that all runs have.

Fits and tests need all their numbers: they are NaN or an error. Statistics over runs leave out runs whose number is
missing, and say how many they kept, or are NaN.
"""

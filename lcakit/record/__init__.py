"""The rooms that import torch: objectives, path integrals, the recorder."""

"""Which kernel a norm layer belongs to: the last one that its input has passed, as the forward pass shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["kernel_layers"]


def __dir__() -> list[str]:
    return __all__


def kernel_layers(
    layers: Sequence[str], widths: Mapping[str, int], norms: Mapping[str, int], passed: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return the kernel layer of each norm layer that has one.

    Parameters
    ----------
    layers
        All layers in the order of definition.
    widths, norms
        Number of outputs of each layer with a kernel, and of channels of each norm layer.
    passed
        Norm layer -> the layers that its input has passed, the last one last. Where a norm layer is not in it, the
        forward pass has not used it, and the order of definition stands in.
    """
    found = {}
    for norm, channels in norms.items():
        if norm in passed:
            before = [layer for layer in passed[norm] if layer in widths and layer != norm]
            fitting = [k for k in before if widths[k] % channels == 0 or channels % widths[k] == 0]
        else:
            before = [layer for layer in layers[: layers.index(norm)] if layer in widths]
            fitting = [k for k in before if widths[k] == channels]
        if before:
            found[norm] = (fitting or before)[-1]
    return found

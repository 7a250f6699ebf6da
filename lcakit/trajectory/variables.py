"""The variables of the trajectory format as tables: dimensions, types, units, and the option that records each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "COORDINATES",
    "LAYER_COUNTS",
    "ROLES",
    "SIGNS",
    "STATISTICS",
    "UNIT_NORMS",
    "VARIABLES",
    "Variable",
    "split_name",
    "with_suffix",
]


def __dir__() -> list[str]:
    return __all__


ROLES = ("kernel", "bias", "norm_scale", "norm_shift", "embedding", "other")


@dataclass(frozen=True)
class Variable:
    """One data variable of the format: ``units`` may name ``{loss}``, the unit of the loss."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    option: str = ""

    def attrs(self, loss_unit: str, suffix: str = "") -> dict[str, str]:
        """Return ``long_name`` and ``units`` for a file whose loss is in ``loss_unit``."""
        which = f" ({suffix} objective)" if suffix else ""
        return {"long_name": self.long_name + which, "units": self.units.format(loss=loss_unit)}


def _table(*variables: Variable) -> dict[str, Variable]:
    return {v.name: v for v in variables}


_SP, _IP = ("snapshot", "parameter"), ("iteration", "parameter")
_P, _IL = ("parameter",), ("iteration", "layer")
_STATISTICS_OPTION = "statistics=True"
_NORMS_OPTION = 'keep=("theta", "gradient", "lca"), classes="parameter"'
VARIABLES: dict[str, Variable] = _table(
    Variable("theta", _SP, "f4", "1", "parameters", 'keep=("theta", …)'),
    Variable("gradient", _SP, "f4", "{loss}", "gradient of the loss, full set", 'keep=("gradient", …)'),
    Variable("lca", _IP, "f4", "{loss}", "loss change allocation", 'keep=("lca", …)'),
    Variable(
        "lca_unit_class",
        ("iteration", "unit", "class"),
        "f4",
        "{loss}",
        "loss change allocation of units by class",
        'classes="unit"',
    ),
    Variable(
        "lca_class",
        ("iteration", "class", "parameter"),
        "f4",
        "{loss}",
        "loss change allocation by class",
        'classes="parameter"',
    ),
    Variable(
        "unit_lca", ("iteration", "unit"), "f4", "{loss}", "loss change allocation of units", "keep=(), classes=None"
    ),
    Variable(
        "unit_gradient_norm", ("snapshot", "unit"), "f4", "{loss}", "norm of the gradient of units", _NORMS_OPTION
    ),
    Variable("unit_movement_norm", ("iteration", "unit"), "f4", "1", "norm of the movement of units", _NORMS_OPTION),
    Variable(
        "unit_effective_norm",
        ("iteration", "unit", "class"),
        "f4",
        "{loss}",
        "norm of the effective gradient of units by class",
        _NORMS_OPTION,
    ),
    Variable("layer_helped", _IL, "i8", "1", "parameters of the layer that help", _STATISTICS_OPTION),
    Variable("layer_hurt", _IL, "i8", "1", "parameters of the layer that hurt", _STATISTICS_OPTION),
    Variable("total_lca", _P, "f8", "{loss}", "sum of LCA over the recording", _STATISTICS_OPTION),
    Variable("total_square_lca", _P, "f8", "{loss}^2", "sum of squares of LCA over the recording", _STATISTICS_OPTION),
    Variable("helped_count", _P, "i4", "1", "iterations helped", _STATISTICS_OPTION),
    Variable("hurt_count", _P, "i4", "1", "iterations hurt", _STATISTICS_OPTION),
    Variable("turn_count", _P, "i4", "1", "turns of the weight", _STATISTICS_OPTION),
    Variable("crossing_count", _P, "i4", "1", "sign changes of the gradient", _STATISTICS_OPTION),
    Variable("buffers", ("snapshot", "buffer_entry"), "f8", "1", "buffers of the model that moved"),
    Variable("loss", ("snapshot",), "f8", "{loss}", "loss, full set"),
    Variable("loss_class", ("snapshot", "class"), "f8", "{loss}", "part of the loss from each class"),
    Variable("accuracy", ("snapshot",), "f4", "1", "fraction classified correctly, full set"),
    Variable("first_order", ("iteration",), "f8", "{loss}", "sum of the first-order allocation"),
    Variable("residual", ("iteration",), "f8", "{loss}", "sum of LCA minus loss change"),
    Variable("buffer_change", ("iteration",), "f8", "{loss}", "loss change that buffers caused, not parameters"),
    Variable("splits", ("iteration",), "i2", "1", "sub-intervals of the quadrature rule"),
    Variable("batch_loss", ("iteration",), "f4", "{loss}", "loss of the training batch, as reported"),
    Variable("learning_rate", ("iteration",), "f4", "1", "learning rate (of the first parameter group)"),
)

STATISTICS = {
    "total_lca": "lca",
    "total_square_lca": "lca",
    "helped_count": "lca",
    "hurt_count": "lca",
    "turn_count": "theta",
    "crossing_count": "gradient",
}
"""Running statistics of each parameter over the whole recording, and the series that each is of."""

UNIT_NORMS = ("unit_gradient_norm", "unit_movement_norm", "unit_effective_norm")
"""In compact copies, in place of the vectors that they are norms of."""

LAYER_COUNTS = ("layer_helped", "layer_hurt")
"""Stored with the statistics of ``lca``."""

SIGNS = {"turn_count": ("first_step", "last_step"), "crossing_count": ("first_gradient", "last_gradient")}
"""What a count of sign changes needs beside it while it is made: the first and the last sign that is not 0, int8."""

COORDINATES: dict[str, Variable] = _table(
    Variable("snapshot", ("snapshot",), "i8", "1", "optimizer steps taken before the snapshot"),
    Variable("iteration", ("iteration",), "i8", "1", "optimizer steps taken before the iteration"),
    Variable("tensor_index", ("parameter",), "i4", "1", "row of the tensor table"),
    Variable("layer_index", ("parameter",), "i4", "1", "row of the layer table"),
    Variable("unit_index", ("parameter",), "i4", "1", "value of the unit coordinate"),
    Variable("input_index", ("parameter",), "i4", "1", "index of the input (channel), -1 where there is none"),
    Variable("tap_index", ("parameter",), "i4", "1", "position inside a kernel, or gate, -1 where there is none"),
    Variable("tensor", ("tensor",), "U", "1", "name of the parameter tensor"),
    Variable("tensor_layer", ("tensor",), "i4", "1", "row of the layer table"),
    Variable("tensor_role", ("tensor",), "U", "1", "what the tensor does: " + ", ".join(ROLES)),
    Variable("tensor_unit", ("tensor",), "U", "1", "what a unit of the tensor is; none: one unit, that of its layer"),
    Variable("tensor_offset", ("tensor",), "i8", "1", "index of the tensor's first parameter"),
    Variable("tensor_size", ("tensor",), "i8", "1", "number of parameters"),
    Variable("tensor_shape", ("tensor", "axis"), "i8", "1", "shape, padded with 0"),
    Variable("layer", ("layer",), "U", "1", "name of the layer (module that owns the tensors)"),
    Variable("layer_kind", ("layer",), "U", "1", "kind of the layer"),
    Variable("kernel_layer", ("layer",), "i4", "1", "row of the layer whose kernel this layer is merged into"),
    Variable("unit", ("unit",), "i4", "1", "output neuron or output channel"),
    Variable("unit_layer", ("unit",), "i4", "1", "row of the layer table"),
    Variable("unit_channel", ("unit",), "i4", "1", "index of the unit inside its layer"),
    Variable("class", ("class",), "U", "1", "name of the class"),
    Variable("buffer", ("buffer",), "U", "1", "name of the buffer"),
    Variable("buffer_size", ("buffer",), "i8", "1", "numbers of the buffer, which follow those of the one before"),
    Variable("first_buffers", ("buffer_entry",), "f8", "1", "buffers of the model when the recording began"),
)


def split_name(name: str) -> tuple[str, str]:
    """Split a variable name into its schema name and suffix: ``lca_val`` -> ``("lca", "val")``.

    A name that the schema does not know comes back as ``(name, "")``.
    """
    if name in VARIABLES:
        return name, ""
    base, _, suffix = name.rpartition("_")
    return (base, suffix) if base in VARIABLES else (name, "")


def with_suffix(name: str, suffix: str | None) -> str:
    """Return the name of a variable for a further objective: ``("lca", "val")`` -> ``lca_val``."""
    return f"{name}_{suffix}" if suffix else name

"""What was allocated, added to the trajectory that it was allocated along."""

from __future__ import annotations

import xarray as xr

from lcakit.record.allocation.facts import Facts
from lcakit.storage.segments import BLOCK
from lcakit.trajectory import provenance, schema

__all__ = ["join"]


def __dir__() -> list[str]:
    return __all__


_PATH_VARIABLES = (
    "theta",
    "buffers",
    "batch_loss",
    "learning_rate",
    "turn_count",
)  # of the training, not of an objective


def join(source: xr.Dataset, computed: xr.Dataset, facts: Facts, name: str | None) -> xr.Dataset:
    """Add the computed variables to the trajectory; attributes of a further objective carry its name."""
    names = {v: schema.with_suffix(str(v), name) for v in computed.data_vars if v in schema.VARIABLES}
    older = [schema.with_suffix(v, name) for v in schema.VARIABLES if v not in _PATH_VARIABLES]
    kept = source.drop_vars([n for n in older if n in source.data_vars])
    new = computed.drop_vars(list(computed.coords)).rename(names)
    joined = kept.assign({n: (new[n].dims, new[n].data) for n in names.values()})
    if facts.class_names and "class" in joined.dims and "class" not in joined.coords:
        joined = joined.assign_coords({"class": list(facts.class_names)})
    own = {*schema.stamp(xr.Dataset()).attrs, "path_fingerprint", "dropped", "partial", BLOCK}
    own |= {"threads"} & set(source.attrs)  # of the training
    told = {schema.with_suffix(k, name): v for k, v in computed.attrs.items() if k not in own}
    told |= {"Conventions": schema.CONVENTIONS, "schema_version": schema.SCHEMA_VERSION}
    options = {k: computed.attrs[k] for k in ("rule", "tolerance", "max_splits", "classes")}
    made = provenance.made_by("lk.allocate", **options, name=name)
    told[schema.with_suffix("allocated_by", name)] = "; ".join(made.values())
    return schema.stamp(joined, told | {schema.with_suffix("loss_unit", name): facts.loss_unit})

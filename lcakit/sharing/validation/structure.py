"""Checks of structure: version, attributes, variables, sizes, and label tables that agree with each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.sharing.validation import labelling
from lcakit.sharing.validation.checks import Check, Status, listed
from lcakit.storage.guard import CorruptError, text
from lcakit.text import printable
from lcakit.trajectory import consistency, schema
from lcakit.trajectory.labels import is_whole

__all__ = ["DAMAGED", "ESSENTIAL", "POSITIVE", "SHARED_BY_RUNS", "checks"]


def __dir__() -> list[str]:
    return __all__


ESSENTIAL = (
    "format version",
    "variables",
    "sizes",
    "tensor table",
    "layer table",
    "unit table",
    "parameter labels",
)
"""Checks that must pass before the numbers can be checked."""

DAMAGED = "The file is damaged, or was not written by lcakit: record or convert it again."
SHARED_BY_RUNS = ("Conventions", "schema_version", "loss_unit", "sign_convention")
"""Attributes in which runs that are analysed together must agree."""

_ONE_OBJECTIVE = ("loss_name", "rule", "norm_mode", "data_fingerprint")
"""Attributes that lk.open_runs keeps where all runs agree, as runs of one objective do."""

POSITIVE = ("n_examples", "evaluation_batch_size")


def checks(ds: xr.Dataset) -> Iterator[Check]:
    """Yield the checks of structure."""
    yield _version(ds)
    yield _attributes(ds)
    variables = _variables(ds)
    yield variables
    sizes = _sizes(ds)
    yield sizes
    if sizes.status == "pass":
        yield _length(ds)
    if ds.attrs.get("partial"):
        yield _finished(ds)
    if "run" in ds.dims:
        yield _runs(ds)
    if variables.status == "pass":  # tables of the wrong shape cannot be compared
        yield _names(ds)
        yield from _table_checks(ds)


def _table_checks(ds: xr.Dataset) -> Iterator[Check]:
    found = [_tensor_table(ds), _layer_table(ds), _unit_table(ds), *_class_table(ds)]
    yield from found
    if "parameter" in ds.dims and all(table.status == "pass" for table in found):
        labels = _parameter_labels(ds)
        yield labels
        if not is_whole(ds):
            yield _selection(ds)
        elif labels.status != "fail":
            yield labelling.check(ds)


def _version(ds: xr.Dataset) -> Check:
    status: Status = "pass"
    figure = printable(ds.attrs.get("schema_version"))
    try:
        warning = schema.check_version(ds.attrs, "the dataset")
        status, figure = ("warn", warning) if warning else (status, figure)
    except TrajectoryError as error:
        status, figure = "fail", printable(error, 400)
    meaning = f"This lcakit reads format {schema.SCHEMA_VERSION} and older ones."
    return Check("format version", "structure", status, figure, meaning, "Install a newer lcakit to read all of it.")


def _attributes(ds: xr.Dataset) -> Check:
    missing = [name for name in schema.REQUIRED_ATTRIBUTES if name not in ds.attrs]
    fine = f"{len(schema.REQUIRED_ATTRIBUTES) - len(missing)} of {len(schema.REQUIRED_ATTRIBUTES)} there"
    if "run" in ds.dims:  # lk.open_runs keeps what the runs have in common
        missing = [name for name in missing if name in SHARED_BY_RUNS]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    try:
        text.clean_attributes(ds.attrs)
        given = {name: ds.attrs[name] for name in POSITIVE if name in ds.attrs}
        stated = {name: value for name, value in given.items() if value != -1}  # -1: an import's "not stated"
        problems += [f"{name} is {value}" for name, value in stated.items() if value <= 0]
    except CorruptError as error:
        problems.append(str(error))
    meaning = "Attributes say which loss, data and rule the numbers belong to."
    return listed("attributes", "structure", problems, fine, meaning, "Add them: ds.attrs[name] = value, then lk.save.")


def _variables(ds: xr.Dataset) -> Check:
    problems = [problem for name in ds.variables for problem in consistency.variable_problems(ds, str(name))]
    problems += [
        f"{printable(name)} is packed ({key})"
        for name, array in ds.variables.items()
        for key in ("scale_factor", "add_offset")
        if key in array.encoding or key in array.attrs
    ]
    problems += [] if len(ds.data_vars) else ["the dataset has no data variables"]
    fine = f"{len(ds.data_vars)} variables with the dimensions and types of the format"
    return listed("variables", "structure", problems, fine, "Each variable has one shape and one type.", DAMAGED)


def _sizes(ds: xr.Dataset) -> Check:
    problems = [f"no dimension {name!r}" for name in ("snapshot", "iteration") if name not in ds.dims]
    problems = problems or [*consistency.missing(ds, ("snapshot", "iteration")), *consistency.size_problems(ds)]
    fine = f"{ds.sizes.get('iteration')} iterations between {ds.sizes.get('snapshot')} snapshots"
    meaning = "Iteration t is the move from snapshot t to snapshot t+1, so there is one snapshot more."
    return listed("sizes", "structure", problems, fine, meaning, DAMAGED)


def _length(ds: xr.Dataset) -> Check:
    n = ds.sizes["iteration"]
    meaning = "A trajectory without an iteration has no move, so nothing in it can be judged."
    remedy = "Record it again, with the optimizer that trains the network."
    return listed("length", "structure", [] if n else ["no iteration"], f"{n:,} iterations", meaning, remedy)


def _finished(ds: xr.Dataset) -> Check:
    figure = f"not finished: {ds.sizes.get('iteration', 0):,} iterations so far"
    meaning = "What is judged is what has been written; the rest of the training is not in it."
    return Check("finished", "structure", "warn", figure, meaning, "lcakit finish, or record on with resume=True.")


def _runs(ds: xr.Dataset) -> Check:
    """Runs are different runs of one experiment: none is a copy of another, and all have one objective."""
    names = ds["run"].values.astype(str) if "run" in ds.coords else np.arange(ds.sizes["run"]).astype(str)
    copies, problems = [], []
    if "loss" in ds and ds["loss"].size:
        rows = ds["loss"].transpose("run", ...).values.reshape(names.size, -1)
        first = {row.tobytes(): n for n, row in reversed(list(enumerate(rows)))}
        copies = [(n, first[row.tobytes()]) for n, row in enumerate(rows) if first[row.tobytes()] != n]
    problems += [f"{names[n]} has the losses of {names[k]}, number for number" for n, k in copies]
    problems += [f"the runs differ in {name}" for name in _ONE_OBJECTIVE if name not in ds.attrs]
    meaning = "Statistics over runs take each for a new run of one experiment, with one objective."
    remedy = "Open each file once, and runs of one objective together."
    worst: Status = "fail" if copies else "warn"
    return listed("runs", "structure", problems, f"{names.size} different runs", meaning, remedy, worst=worst)


def _names(ds: xr.Dataset) -> Check:
    problems, count = [], 0
    for table in ("tensor", "layer", "layer_kind", "class"):
        values = ds[table].values if table in ds.variables else np.array([], object)
        count += values.size
        try:
            odd = [name for name in values.ravel().tolist() if printable(name, text.MOST_LETTERS) != str(name)]
            text.clean_names(values, table)
            problems += [f"{table} {printable(odd[0], 40)!r} (and {len(odd) - 1} more)"] if odd else []
        except CorruptError as error:
            problems.append(str(error))
    meaning = "Names are short and hold no control characters, which could change what is read on a screen."
    return listed("names", "structure", problems, f"{count:,} printable names", meaning, "Rename them.", worst="warn")


def _tensor_table(ds: xr.Dataset) -> Check:
    meaning = "The table says where each tensor lies on the parameter axis, and its shape."
    if "parameter" not in ds.dims and consistency.missing(ds, consistency.TENSOR_TABLE):
        return Check("tensor table", "structure", "pass", "none: nothing per parameter", meaning, "")
    problems = consistency.missing(ds, (*consistency.TENSOR_TABLE, "layer")) or list(consistency.tensor_problems(ds))
    fine = "" if problems else f"{ds.sizes['tensor']} tensors, {int(ds['tensor_size'].values.sum()):,} parameters"
    return listed("tensor table", "structure", problems, fine, meaning, DAMAGED)


def _layer_table(ds: xr.Dataset) -> Check:
    problems = consistency.missing(ds, consistency.LAYER_TABLE) or list(consistency.layer_problems(ds))
    fine = "" if problems else f"{ds.sizes['layer']} layers"
    meaning = "The table names the layers, and the layer whose kernel each is counted with."
    return listed("layer table", "structure", problems, fine, meaning, DAMAGED)


def _unit_table(ds: xr.Dataset) -> Check:
    meaning = "The table says to which layer each neuron or channel belongs."
    if "parameter" not in ds.dims and "unit" not in ds.dims:
        return Check("unit table", "structure", "pass", "none: nothing per unit", meaning, "")
    problems = consistency.missing(ds, (*consistency.UNIT_TABLE, "layer")) or list(consistency.unit_problems(ds))
    fine = "" if problems else f"{ds.sizes['unit']:,} units"
    return listed("unit table", "structure", problems, fine, meaning, DAMAGED)


def _class_table(ds: xr.Dataset) -> Iterator[Check]:
    if "class" in ds.dims:
        problems = consistency.missing(ds, ("class",)) or list(consistency.class_problems(ds))
        meaning = "The table names the classes."
        yield listed("class table", "structure", problems, f"{ds.sizes['class']} classes", meaning, DAMAGED)


def _parameter_labels(ds: xr.Dataset) -> Check:
    needed = (*consistency.LABELS, *consistency.TENSOR_TABLE, *consistency.LAYER_TABLE, *consistency.UNIT_TABLE)
    problems = consistency.missing(ds, needed) or consistency.label_problems(ds)
    fine = f"{ds.sizes['parameter']:,} parameters labelled as the tables say"
    meaning = "Every parameter points to its tensor, layer and unit."
    return listed("parameter labels", "structure", problems, fine, meaning, DAMAGED)


def _selection(ds: xr.Dataset) -> Check:
    figure = f"{ds.sizes['parameter']:,} parameters of {int(ds['tensor_size'].values.sum()):,}"
    meaning = "A selection of parameters cannot add up to the loss, so its sums are not checked."
    return Check("selection", "structure", "warn", figure, meaning, "Validate the whole trajectory for that.")

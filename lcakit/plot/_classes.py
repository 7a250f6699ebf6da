"""The argument ``classes`` of pictures: LCA and losses of some classes in place of those of all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import holoviews as hv
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.plot._colours import look_of
from lcakit.plot._marks import plain
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.configurations import require_alike
from lcakit.trajectory.select import select

__all__ = ["Classes", "alike", "as_list", "by_classes", "class_looks", "in_words", "of_classes"]

Classes = str | Iterable[str] | None
_MOST_NAMES = 4


def of_classes(data: Any, classes: Classes, keep: tuple[str, ...] = ()) -> Any:
    """Return trajectories, one or a dict of them, whose LCA and losses are those of some classes; None: as they are.

    Parameters
    ----------
    keep
        Variables of all classes that are to stay beside them.

    Raises
    ------
    TrajectoryError
        If a file has no classes; or for anything but trajectories: classes are selected before a study, not after it.
    ValueError
        For an unknown class, or none.
    """
    if classes is None:
        return data
    if isinstance(data, Mapping) and not isinstance(data, xr.Dataset):
        return {name: of_classes(one, classes, keep) for name, one in data.items()}
    if not isinstance(data, xr.Dataset) or "iteration" not in data.dims:
        kind = "a result" if isinstance(data, xr.Dataset | xr.DataArray) else type(data).__name__
        raise TrajectoryError(f"classes=… selects from a trajectory, got {kind}; pass the trajectory, or select before")
    part = select(data, cls=as_list(classes))
    return part.assign({name: data[name] for name in keep if name in data and name not in part})


def alike(data: Any) -> None:
    """Refuse trajectories whose runs, which a picture averages, are not of one configuration."""
    if isinstance(data, xr.Dataset):
        require_alike(data)
    elif isinstance(data, Mapping):
        for part in data.values():
            alike(part)


@overload
def by_classes(draw: Callable[..., Any]) -> Callable[..., Any]: ...


@overload
def by_classes(*, keep: tuple[str, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def by_classes(draw: Callable[..., Any] | None = None, *, keep: tuple[str, ...] = ()) -> Any:
    """Give a picture of trajectories (or their paths) the argument ``classes``, and their names in its title."""
    if draw is None:
        return functools.partial(by_classes, keep=keep)
    signature = inspect.signature(draw)
    own = inspect.Parameter("classes", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Classes)

    @functools.wraps(draw)
    def drawn(ds: Any, *given: Any, classes: Classes = None, **named: Any) -> Any:
        alike(ds)
        if classes is None:
            return draw(ds, *given, **named)
        names = as_list(classes)
        bound = signature.bind(of_classes(ds, names, keep), *given, **named)
        picture = draw(*bound.args, **bound.kwargs)
        bound.apply_defaults()
        return picture if named.get("title") else _titled(picture, in_words(names, ds), bound.arguments["backend"])

    drawn.__signature__ = signature.replace(parameters=[*signature.parameters.values(), own])  # type: ignore[attr-defined]
    return of_trajectories(drawn)


def in_words(names: list[str], data: Any) -> str:
    """Return classes of trajectories, one or a dict of them, as text: ``class 7``, ``classes 1, 7``, ``domain web``."""
    while isinstance(data, Mapping) and not isinstance(data, xr.Dataset):
        data = next(iter(data.values()))
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
    return f"{class_kind(data, many=len(names) != 1)} {shown}"


def as_list(classes: Classes) -> list[str]:
    """Return one name, or several, as a list; [] for None."""
    return [classes] if isinstance(classes, str) else [str(name) for name in classes or ()]


def class_looks(ds: xr.Dataset, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return colours and dashes of classes: each has its own by its place in the file, whichever are drawn."""
    every = [str(name) for name in ds["class"].values.ravel()]
    return [look_of(every.index(name)) for name in names]


def _titled(picture: Any, words: str, backend: str) -> Any:
    """Return a picture whose title says of which classes it is."""
    if isinstance(picture, hv.Layout):
        return picture
    title = hv.Store.lookup_options(backend, picture, "plot").kwargs.get("title", "")
    text = plain(backend, words).replace("{", "{{").replace("}", "}}")
    return picture.opts(title=f"{title}, {text}" if title else text, backend=backend)

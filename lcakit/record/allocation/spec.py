"""How to build an objective elsewhere: the name of an importable function and its arguments, which can be sent."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lcakit.errors import RecordingError
from lcakit.trajectory.arguments import checks_creation

if TYPE_CHECKING:
    from lcakit.record.objective.objective import Objective

__all__ = ["ObjectiveSpec"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
@dataclass(frozen=True)
class ObjectiveSpec:
    """A recipe for an :class:`lcakit.Objective`, built where it is used: by every worker of a cluster, once.

    Parameters
    ----------
    factory
        ``"package.module:function"``; the function returns an :class:`lcakit.Objective`. Workers import it, so it must
        lie in a module that they have, not in a notebook.
    options
        Keyword arguments of the function; they must be picklable, and should be small: paths and names, not data.

    Raises
    ------
    RecordingError
        If ``factory`` has another form.

    Examples
    --------
    >>> spec = ObjectiveSpec("my_project.training:objective", {"data": "/data/mnist"})
    >>> spec.factory
    'my_project.training:objective'
    """

    factory: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, colon, function = self.factory.partition(":")
        if not (colon and module and function.isidentifier()) or module == "__main__":
            raise RecordingError(
                f"a factory is 'package.module:function', which workers import; got {self.factory!r}. Put the function "
                "into a module."
            )

    def build(self) -> Objective:
        """Return the objective.

        Raises
        ------
        RecordingError
            If there is no such function, or it returns something else.
        """
        from lcakit.record.objective.objective import Objective

        module, _, name = self.factory.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise RecordingError(
                f"the factory {self.factory!r} cannot be imported ({error}). Install its module where it is used."
            ) from error
        objective = function(**self.options)
        if not isinstance(objective, Objective):
            raise RecordingError(
                f"the factory {self.factory!r} must return an lk.Objective, it returned {type(objective).__name__}"
            )
        return objective

"""One finding of the validation, how checks are made from problems, and what usually causes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Check", "Group", "Status", "listed"]


def __dir__() -> list[str]:
    return __all__


Status = Literal["pass", "warn", "fail"]
Group = Literal["structure", "content", "conservation"]

CAUSES = {
    "format version": "a newer lcakit wrote the file, or something else than lcakit did",
    "attributes": "the file was put together by hand, or its attributes were edited",
    "variables": "another program wrote, packed or converted the file",
    "sizes": "a part was cut off, or series of two recordings were put together",
    "length": "the loop took no step of the recorded optimizer, or the recording stopped before its first was stored",
    "finished": "the training still runs, or was stopped",
    "names": "names were taken from user input, or bytes were damaged",
    "tensor table": "the table is that of another network, or was damaged",
    "layer table": "the table is that of another network, or was damaged",
    "unit table": "the table is that of another network, or was damaged",
    "class table": "classes of several data sets were put together",
    "parameter labels": "labels of another network, or parameters were selected without their labels",
    "labels and shapes": "a column of labels or names was permuted, or is that of another network",
    "selection": "parameters were selected (ds.lk.sel)",
    "runs": "one file was copied or opened under several names, or the runs are of different experiments",
    "numbers": "see the checks that failed",
    "reading": "bytes of the file were lost or changed",
    "finite loss": "training diverged, or bytes were damaged",
    "steps": "rows were put together in another order",
    "missing iterations": "a part of the recording was lost, or steps were recorded unevenly",
    "finite values": "training diverged, bytes were damaged, or runs of different lengths were padded",
    "reported values": "the loop reported them at some steps only, or bytes were damaged",
    "repeated snapshots": "the optimizer skipped a step, or a row was written twice",
    "returning snapshots": "a snapshot was stored under a wrong step or over another one, or training went back to it",
    "returning tensors": "a checkpoint was put together from two, or a tensor was written over that of another step",
    "movement": "a snapshot of another place in the run, or of another run",
    "segment checksums": "the disk lost or changed bytes",
    "splits": "the quadrature's record was damaged or edited",
    "rounding": "the copy was made coarse to be small",
    "total": "LCA or loss of another run, or a rule that does not close the account",
    "iterations": "LCA, residuals and losses are of different runs or rows, or numbers were damaged",
    "residual": "the path of these moves bends more than the finest quadrature follows",
    "unit classes": "the sums of units were made from other LCA, or units were permuted",
    "classes": "LCA by class was made from other examples, or numbers were damaged",
    "class columns": "the classes were sorted anew for one variable and not for the other",
    "loss of classes": "the losses of classes are of other examples or weights",
    "first order": "gradients or snapshots of other rows, or of another run",
    "zero moves": "LCA of other rows, or of another run",
    "running sums": "statistics of another recording, or of a part of this one",
    "running counts": "statistics of another recording, or of a part of this one",
}
"""What is suspected where a check does not pass; a further objective's checks are ``name (suffix)``."""


@dataclass(frozen=True)
class Check:
    """A named check: ``figure`` says what was found, ``meaning`` why it matters, ``remedy`` what to do."""

    name: str
    group: Group
    status: Status
    figure: str
    meaning: str
    remedy: str

    @property
    def cause(self) -> str:
        """What is suspected, "" for a check that passed."""
        return "" if self.status == "pass" else CAUSES.get(self.name.partition(" (")[0], "")

    @property
    def told(self) -> str:
        """Meaning, suspected cause and remedy, as one text."""
        suspected = f"Suspected: {self.cause}." if self.cause else ""
        return " ".join(filter(None, [self.meaning, suspected, self.remedy if self.status != "pass" else ""]))

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain data, for JSON."""
        return asdict(self) | {"cause": self.cause}


def listed(
    name: str,
    group: Group,
    problems: Sequence[str],
    fine: str,
    meaning: str,
    remedy: str,
    worst: Status = "fail",
) -> Check:
    """Make a check that passes, saying ``fine``, unless there are problems; at most five are shown."""
    if not problems:
        return Check(name, group, "pass", fine, meaning, remedy)
    more = f"; … ({len(problems)} in all)" if len(problems) > 5 else ""
    return Check(name, group, worst, "; ".join(problems[:5]) + more, meaning, remedy)

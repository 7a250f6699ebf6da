"""One replica with the examples as the user gave them, to see on a few of them what an objective is like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective import checks
from lcakit.record.objective.data import Storage
from lcakit.record.objective.describe import couples_batch, tensors_fingerprint
from lcakit.record.objective.isolation import Numerics, arithmetic, seed_generators
from lcakit.record.objective.losses.resolve import ExampleLoss, Found, no_tensor
from lcakit.record.objective.replicas import Replica
from lcakit.record.objective.sources import Columns, Ready, Source, ranges, tree_bytes
from lcakit.record.objective.tally import weighted
from lcakit.record.objective.trees import cloned, describe_tree, tensors

__all__ = ["Trial"]


def __dir__() -> list[str]:
    return __all__


_SOME = 16  # examples that checks look at
_HALF = ("tf32", "bfloat16")  # too coarse to see whether a layer couples the batch


@dataclass(frozen=True)
class Trial:
    """A replica, a loss, and examples in the user's order."""

    replica: Replica
    loss: ExampleLoss
    source: Source
    storage: Storage
    numerics: Numerics
    noise: int | None = None

    @property
    def some(self) -> int:
        """How many examples are tried: those of the first batch, where batches cannot be cut."""
        return min(self.source.n_examples, _SOME) if self.source.edges is None else self.source.edges[1]

    def batch(self, start: int, stop: int) -> Any:
        """Return a range of examples on the device; a copy, since a pass may write into it."""
        return cloned(self.storage.put(self.source.take(start, stop)))

    def found_of(self, start: int, stop: int) -> Found:
        """Return the losses of a range of examples, with their weights."""
        batch = self.batch(start, stop)
        if self.noise is not None:
            seed_generators(self.noise + start)
        return self.loss(self.replica.model, batch)

    def losses_of(self, start: int, stop: int) -> torch.Tensor:
        """Return the weighted loss of each of a range of examples."""
        terms = weighted(self.found_of(start, stop), None)[0]
        return terms if terms.dim() == 1 else terms.flatten(1).sum(1)

    def probe(self) -> checks.Probe:
        """Run the model on two examples, or on the first batch.

        Raises
        ------
        ObjectiveError
            If it does not accept them.
        """
        model, count = self.replica.model, self._few
        batch = self.batch(0, count)
        given = batch if self.loss.of_batches else batch[0]

        def run() -> Any:
            if self.loss.of_batches:
                return self.loss(model, batch).losses
            output = model(given)
            if self.loss.by_name and not isinstance(output, torch.Tensor):
                raise no_tensor(output, self.loss.name)
            return output

        try:
            with self._parameters_kept():
                seen = checks.probe(model, run, count, tree_bytes(given))
        except ObjectiveError:
            raise
        except checks.MISFITS as error:
            what = (
                "batch_loss does not accept the model and a batch"
                if self.loss.of_batches
                else "the model does not accept the evaluation set"
            )
            raise ObjectiveError(f"{what}: {self._told(given)}; {error}") from error
        return seen

    def writes(self) -> bool:
        """Say whether a pass writes into its batch: ``x.mul_(…)``, or ``nn.ReLU(inplace=True)`` as the first layer."""
        batch = self.batch(0, self._few)
        before = [tensor._version for tensor in tensors(batch)]
        with torch.no_grad():
            self.loss(self.replica.model, batch)
        return [tensor._version for tensor in tensors(batch)] != before

    def counted(self) -> Source:
        """Return the source; of ready batches whose first tensor is not the examples, with as many as there are losses.

        (The nodes of graphs, say, of which each has a loss.)
        """
        if not isinstance(self.source, Ready) or not self.loss.of_batches:
            return self.source
        with torch.no_grad():
            if _length(self.found_of(0, self.some)) in (self.some, None):
                return self.source
            lengths = [_length(self.found_of(*each)) or 0 for each in ranges(self.source)]
        return Ready(self.source.batches, lengths)

    @property
    def _few(self) -> int:
        """Two examples, or the first batch."""
        return min(2, self.some) if self.source.edges is None else self.some

    def _told(self, given: Any) -> str:
        if not self.loss.of_batches and isinstance(given, torch.Tensor):
            n = self.source.n_examples
            return f"x has shape {(n, *given.shape[1:])} and type {given.dtype}"
        return f"the batch is {describe_tree(given)}"

    def couples_batch(self) -> bool:
        """Check the loss, then say whether that of one example depends on the others in its batch."""
        with self._parameters_kept():
            checks.check_losses(self.found_of, self.some, self.loss.of_batches, self.noise is not None)
        with torch.enable_grad():
            once, again = self.found_of(0, self._few), self.found_of(0, self._few)
        checks.check_graph(once, again, self.replica.parameters)
        if self.noise is not None:
            return True  # the noise of an example depends on its place in a batch
        precision = "float32" if self.numerics.precision in _HALF else self.numerics.precision
        with arithmetic(precision, self.numerics.device):
            if couples_batch(self.replica.model):
                return True
            return self.source.edges is None and checks.depends_on_batch(self.losses_of, self.some)

    @contextmanager
    def _parameters_kept(self) -> Iterator[None]:
        """Refuse what moves parameters by being evaluated."""
        before = dict(self._places())
        yield
        moved = [name for name, place in self._places() if place != before.get(name, place)]
        if moved:
            raise ObjectiveError(
                f"evaluating the model changes its parameter {moved[0]!r} in place (nn.Embedding(max_norm=…), or a "
                "constraint in forward), so the loss is not a function of the parameters. Constrain a copy that "
                "forward uses, or the parameter itself after optimizer.step()."
            )

    def _places(self) -> Iterator[tuple[str, tuple[int, str, str]]]:
        """Yield each parameter's name, with where it lies and what it holds, in two numbers."""
        for name, parameter in self.replica.model.named_parameters():
            values = parameter.detach()
            total, squares = values.sum(dtype=torch.float64), values.square().sum(dtype=torch.float64)
            yield name, (values.data_ptr(), str(float(total)), str(float(squares)))

    def norm_mode(self, coupled: bool) -> str:
        """Return what norm layers use: the evaluation batch, running statistics, or neither."""
        norms = [m for m in self.replica.model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        running = [norm.running_mean is not None for norm in norms]
        if any(running) and not all(running):
            return "mixed"
        return "running" if any(running) else "evaluation_batch" if coupled else "none"

    def fingerprint(self, wanted: Any) -> str:
        """Return a SHA-256 of the examples in the user's order, with the groups and weights that come as arrays."""
        if isinstance(self.source, Columns):
            digest = tensors_fingerprint(*tensors(self.source.tree))
        else:
            found = hashlib.sha256()
            for start, stop in ranges(self.source):
                found.update(tensors_fingerprint(*tensors(self.source.take(start, stop))).encode())
            digest = found.hexdigest()
        further = [torch.as_tensor(v) for v in (wanted.groups, wanted.weights) if v is not None and not callable(v)]
        return tensors_fingerprint(*further, torch.tensor(list(digest.encode()))) if further else digest


def _length(found: Found) -> int | None:
    """Return the number of losses along the examples; None where they are no such tensor."""
    return len(found.losses) if isinstance(found.losses, torch.Tensor) and found.losses.dim() else None

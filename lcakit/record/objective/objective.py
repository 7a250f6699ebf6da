"""The objective: loss and gradients of a network over the whole evaluation set, as functions of θ alone."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from lcakit.errors import ObjectiveError, unknown
from lcakit.record.objective import chunks
from lcakit.record.objective.checks import check_lonely, check_losses, depends_on_batch, probe, usable_device
from lcakit.record.objective.data import EvaluationSet, as_tensors, class_labels
from lcakit.record.objective.describe import (
    couples_batch,
    describe,
    make_deterministic,
    model_fingerprint,
    name_cleaner,
    trainable_parameters,
    unwrap,
    unwrap_inner,
)
from lcakit.record.objective.isolation import PRECISIONS, ThreadTeam, arithmetic, generators_kept
from lcakit.record.objective.losses import Loss, resolve_loss
from lcakit.record.objective.sweep import Evaluation, Replica, Sweep
from lcakit.record.objective.together import Together, check_wanted
from lcakit.record.objective.tuning import keep_freed_memory, precise_norms, suited, through_onednn

MOST_WORKERS = 8
WORTH_A_THREAD = 256  # examples
SHORT = 0.5  # seconds: a pass that can be repeated to warm up
HALF = ("tf32", "bfloat16")  # too coarse to see whether a layer couples the batch
Result = TypeVar("Result")


class Objective:
    r"""The mean loss of a model over a fixed evaluation set, and its gradient with respect to all parameters.

    .. math:: L(θ) = \frac1N \sum_n \ell(f_θ(x_n), y_n), \qquad
              L_c(θ) = \frac1N \sum_{n: y_n = c} \ell_n(θ), \qquad L = \sum_c L_c

    The evaluation set is normally the entire training set. Dropout is off. BatchNorm normalizes by the statistics of
    the evaluation batch, over a fixed partition of the set (its order, ``batch_size``); running statistics are neither
    used nor changed. The model is copied: its weights, mode, buffers and every random generator stay untouched by any
    call, and changes of its buffers after construction are not followed.

    Parameters
    ----------
    model
        Any ``nn.Module`` (DataParallel and ``torch.compile`` wrappers are looked through). Parameters that require
        no gradient now are not part of θ. Tied parameters count once.
    data
        ``(x, y)`` arrays or tensors, or a map-style Dataset of such pairs.
    loss
        ``"cross_entropy"`` (nats), ``"mse"``, or a callable ``(output, y) -> per-example losses (n,)``.
    class_names
        Names of the classes. With cross-entropy they are ``"0", "1", …`` by default; with another loss, integer y are
        classes only if they are named.
    batch_size
        Examples per chunk; ``"auto"`` chooses by activation memory. Without batch coupling it changes nothing but the
        time. With BatchNorm it is part of the objective (``"auto"`` = 500 on every machine).
    device
        Where to evaluate; the device of the model by default.
    precision
        ``"float32"``, ``"float64"``, ``"tf32"`` (GPU matrix products) or ``"bfloat16"`` (autocast).
    workers
        Threads that evaluate chunks side by side on a CPU; ``"auto"`` uses torch's number of threads, at most 8.
        Sums are formed in a fixed order, so results repeat bit by bit for the same number.
    together
        θ that :meth:`evaluate_all` evaluates at once, as :func:`lcakit.allocate` and ``allocate="later"`` do where the
        path is known: faster where a network is too small to keep the device busy, slower where it is not
        (``lcakit bench together``). The results are the same up to rounding. Not with BatchNorm.

    Attributes
    ----------
    labels : lcakit.trajectory.labels.Labels
        The layout of θ.
    class_names : tuple of str or None
        None where targets are no classes.
    batch_coupling : bool
        True where a layer makes the loss of one example depend on its batch.
    evaluations : int
        Full-set gradients computed so far; ``seconds`` is the time they took.

    Raises
    ------
    ObjectiveError
        For data, labels, losses or models that make no objective; the message says which and what to do.
    """

    batch_size: int
    _sweep: Sweep
    _several: Together | None = None
    _flat: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: str | Loss = "cross_entropy",
        class_names: Sequence[str] | None = None,
        batch_size: int | str = "auto",
        device: str | torch.device | None = None,
        precision: str = "float32",
        workers: int | str = "auto",
        together: int = 1,
    ) -> None:
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if not isinstance(model, nn.Module):
            raise ObjectiveError(
                f"the model must be a torch.nn.Module, got {type(model).__name__}: "
                "lk.Objective(model, (x, y), loss=…). A function goes into the forward of a Module."
            )
        self.model = model
        self._live = [parameter for _, parameter in trainable_parameters(model)]
        if not self._live:
            raise ObjectiveError(
                "the model has no trainable parameter (requires_grad, not empty): there is nothing to allocate to."
            )
        self.device = usable_device(device if device is not None else self._live[0].device)
        self.precision = precision
        self._dtype = torch.float64 if precision == "float64" else torch.float32
        self._per_example, self.loss_name, self.loss_unit = resolve_loss(loss)
        self.evaluations, self.seconds = 0, 0.0
        self._timed: dict[bool, float] = {}

        with generators_kept(), torch.inference_mode(False):
            self._build(data, loss, class_names, batch_size, workers, together)

    # ---- what a caller asks -------------------------------------------------------------------------------------

    @property
    def n_parameters(self) -> int:
        """K, the length of θ."""
        return self.labels.n_parameters

    @property
    def n_examples(self) -> int:
        """N, the size of the evaluation set."""
        return self.data.n_examples

    @property
    def n_classes(self) -> int:
        """C, or 0 where the targets are no classes."""
        return len(self.class_names or ())

    @property
    def class_factor(self) -> float:
        """Cost of a gradient by class, by that of a plain one: above 1 with BatchNorm.

        A batch cannot be cut by class then: each class takes a backward pass of twice the cost of the forward pass.
        """
        return (1 + 2 * self.n_classes) / 3 if self.batch_coupling and self.n_classes else 1.0

    def parameters_vector(self) -> np.ndarray:
        """Return the model's present parameters as one float32 vector (K,), in the order of the labels."""
        return self.parameters_tensor().to(torch.float32).cpu().numpy()

    def parameters_tensor(self) -> torch.Tensor:
        """Return the model's present parameters as a new flat tensor (K,) on the objective's device.

        Raises ObjectiveError if the model's parameters are other tensors now than when the objective was made.
        """
        present = {id(p) for p in unwrap(self.model).parameters()}
        if not all(id(p) in present for p in self._live):
            raise ObjectiveError(
                "the model's parameters were replaced since the objective was made (a new layer, or "
                "load_state_dict(assign=True)). Make the objective, and the recorder, after that."
            )
        home = self._live[0].device
        with torch.no_grad():  # one copy from device to device, not one for each tensor
            flat = torch.cat([p.detach().reshape(-1).to(home, self._dtype) for p in self._live])
        return flat.to(self.device)

    def loss(self, theta: Any = None) -> float:
        """Return L(θ); θ is the model's present parameters by default."""
        return self.evaluate(theta, gradient=False).loss

    def class_losses(self, theta: Any = None) -> np.ndarray:
        """Return L_c(θ) for each class, float64 (C,); they sum to the loss."""
        losses = self.evaluate(theta, gradient=False).class_losses
        if losses is None:
            raise self._no_classes()
        return losses

    def gradient(self, theta: Any = None, classes: bool = False) -> np.ndarray:
        """Return ∇L(θ) as (K,), or ∇L_c(θ) as (C, K) with ``classes=True``: float32 (float64 in that precision)."""
        gradient = self.evaluate(theta, classes=classes, accuracy=False).gradient
        return gradient.cpu().numpy() if gradient is not None else np.zeros(0)

    def evaluate(
        self, theta: Any = None, *, gradient: bool = True, classes: bool = False, accuracy: bool = True
    ) -> Evaluation:
        """Return loss, class losses, accuracy and gradient of one pass over the evaluation set."""
        if classes and self.class_names is None:
            raise self._no_classes()
        self._load(theta)
        began = time.perf_counter()
        how = {"gradient": gradient, "classes": classes, "accuracy": accuracy}
        with self._isolated():
            result = self._in_memory(partial(self._sweep.run, self._flat, **how))
        if gradient:
            self._timed[classes] = time.perf_counter() - began
            self.evaluations += 1
            self.seconds += self._timed[classes]
        return result

    def evaluate_all(self, thetas: torch.Tensor, *, classes: bool = False) -> list[Evaluation]:
        """Return loss, class losses, accuracy and gradient at each θ of (S, K), ``together`` of them at a time."""
        several = self._several
        if several is None:
            return [self.evaluate(theta, classes=classes) for theta in thetas]
        if classes and self.class_names is None:
            raise self._no_classes()
        began, found = time.perf_counter(), []
        with self._isolated():
            for some in thetas.to(self.device, self._dtype).split(self.together):
                found += self._in_memory(partial(several.run, some, classes))
        self.evaluations += len(thetas)
        self.seconds += time.perf_counter() - began
        return found

    def _in_memory(self, evaluate: Callable[..., Result]) -> Result:
        """Evaluate; with smaller chunks from now on, if the device has no memory for these."""
        while True:
            try:
                return evaluate(batch_size=self.batch_size)
            except torch.OutOfMemoryError as error:
                shortage = error.with_traceback(None)  # which holds what fills the device
            self.batch_size = chunks.halved(self.batch_size, self.device, self.batch_coupling, shortage)

    def seconds_per_gradient(self, classes: bool = False) -> float | None:
        """Return what the last gradient took, told from the other kind where only that was; None before any."""
        if classes in self._timed or not self._timed:
            return self._timed.get(classes)
        return self._timed[False] * self.class_factor if classes else self._timed[True] / self.class_factor

    def warm_up(self) -> None:
        """Make the first passes, which are slow, uncounted: a GPU loads its kernels, a CPU maps memory."""
        began = time.perf_counter()
        self.evaluate(gradient=self.device.type == "cuda")
        if time.perf_counter() - began < SHORT:
            self.evaluate()
        self.evaluations, self.seconds, self._timed = 0, 0.0, {}

    def refresh(self) -> None:
        """Take over the model's present frozen parameters and buffers, which are otherwise those it was made with."""
        bare = unwrap(self.model)
        clean = name_cleaner(bare)
        live = {clean(name): value for name, value in (*bare.named_parameters(), *bare.named_buffers())}
        for replica in (*self._sweep.replicas, *(self._several.replicas if self._several else ())):
            learning = {id(p) for p in replica.parameters}
            with torch.no_grad():
                for name, value in (*replica.model.named_parameters(), *replica.model.named_buffers()):
                    if id(value) not in learning and name in live:
                        value.copy_(live[name])

    # ---- construction ------------------------------------------------------------------------------------------

    def _build(
        self,
        data: Any,
        loss: str | Loss,
        class_names: Sequence[str] | None,
        batch_size: int | str,
        workers: int | str,
        together: int,
    ) -> None:
        x, y = as_tensors(data)
        x = x.to(self._dtype) if x.is_floating_point() else x
        y = y.to(self._dtype) if y.is_floating_point() else y
        with self._isolated():
            first = self._make_replica()
            seen = probe(first.model, x, self.device)
            self.labels = describe(self.model, seen.call_order)
            classifies = (
                loss == "cross_entropy" and seen.output_dims == 2 and y.dim() == 1 and not y.is_floating_point()
            )
            n_outputs = seen.n_outputs if classifies else None
            n_classes = len(class_names) if class_names is not None else n_outputs
            labels = class_labels(y, n_classes) if loss == "cross_entropy" or class_names is not None else None
            self.class_names = _class_names(class_names, labels, n_classes)
            target = y if labels is None else labels
            some = min(len(x), 16)

            def losses_of(start: int, stop: int) -> torch.Tensor:
                output = first.model(x[start:stop].to(self.device))
                return self._per_example(output, target[start:stop].to(self.device))

            check_losses(losses_of, some)
            with arithmetic("float32" if self.precision in HALF else self.precision, self.device):
                self.batch_coupling = couples_batch(first.model) or depends_on_batch(losses_of, some)
        self.together = check_wanted(together, self.batch_coupling)
        self.data = EvaluationSet(x, target, labels, len(self.class_names or ()), self.device, self.batch_coupling)
        self.batch_size = chunks.batch_size(
            batch_size, self.n_examples, seen.activation_bytes, self.device, self.batch_coupling
        )
        if self.batch_coupling and 1 in (self.batch_size, self.n_examples % self.batch_size):
            with self._isolated():
                check_lonely(losses_of, self.n_examples, self.batch_size)
        self.norm_mode = "evaluation_batch" if self.batch_coupling else "none"
        self.data_fingerprint = self.data.fingerprint
        self.model_fingerprint = model_fingerprint(first.model, self.labels)
        team = ThreadTeam(self._choose_workers(workers))
        replicas = [first, *(self._make_replica() for _ in range(team.workers - 1))]
        if self.device.type == "cpu":
            keep_freed_memory()
        with self._isolated(), torch.no_grad():
            self.data.x = suited(
                self.data.x,
                first.model,
                self.precision,
                lambda examples: self._per_example(first.model(examples), self.data.y[: len(examples)]),
                some,
            )
        self._flat = torch.empty(self.n_parameters, dtype=self._dtype, device=self.device)
        for replica in replicas:
            replica.bind_theta(self._flat)
        self._sweep = Sweep(replicas, self.data, self._per_example, team, self.precision, self.n_classes, classifies)
        if self.together > 1:
            names = [name for name, _ in trainable_parameters(first.model)]
            own = [self._make_replica(tuned=False) for _ in replicas]
            self._several = Together(self._sweep, own, names)
            with self._isolated():
                self._several.check(self.parameters_tensor(), some)

    @contextlib.contextmanager
    def _isolated(self) -> Iterator[None]:
        with generators_kept(), arithmetic(self.precision, self.device):
            yield

    def _make_replica(self, tuned: bool = True) -> Replica:
        try:
            model = unwrap_inner(copy.deepcopy(unwrap(self.model)))
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ObjectiveError(
                f"the model cannot be copied ({error}). The objective evaluates a private copy: give the model only "
                "attributes that copy.deepcopy accepts (parametrizations instead of old-style weight_norm, say)."
            ) from error
        names = {name for name, _ in trainable_parameters(self.model)}
        found = dict(trainable_parameters(model))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        for module in model.modules():  # hooks on gradients would make them something else than gradients
            module._backward_hooks.clear()
            module._backward_pre_hooks.clear()
        model = make_deterministic(model).to(self.device, self._dtype)
        if tuned and self.device.type == "cpu" and self.precision == "float32":
            precise_norms(through_onednn(model))
        return Replica(model, [found[name] for name, _ in trainable_parameters(self.model)])

    def _load(self, theta: Any) -> None:
        if theta is None:
            self._flat.copy_(self.parameters_tensor())
            return
        vector = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        if tuple(vector.shape) != (self.n_parameters,):
            raise ObjectiveError(
                f"theta must be a flat vector of the {self.n_parameters} trainable parameters, "
                f"got shape {tuple(vector.shape)}"
            )
        self._flat.copy_(vector.detach())

    def _choose_workers(self, wanted: int | str) -> int:
        if self.device.type != "cpu":
            return 1
        if wanted == "auto":
            batches = -(-self.n_examples // self.batch_size)
            useful = batches if self.batch_coupling else self.n_examples // WORTH_A_THREAD
            return max(1, min(torch.get_num_threads(), MOST_WORKERS, useful))
        if not isinstance(wanted, int) or wanted < 1:
            raise ObjectiveError(f'workers must be "auto" or a positive integer, got {wanted!r}')
        return wanted

    def _no_classes(self) -> ObjectiveError:
        return ObjectiveError(
            "this objective has no classes: its targets are not one integer per example. Ask without classes=True."
        )


def _class_names(
    given: Sequence[str] | None, labels: torch.Tensor | None, n_classes: int | None
) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if given is not None:
        names = [str(name) for name in given]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ObjectiveError(f"each class needs a name of its own; class_names has {twice[0]!r} more than once")
        return tuple(names)
    return tuple(str(k) for k in range(n_classes if n_classes is not None else int(labels.max()) + 1))

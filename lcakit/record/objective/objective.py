"""The objective: loss and gradients of a network over the whole evaluation set, as functions of θ alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lcakit.errors import unknown
from lcakit.record.objective.building import Division, Wanted, build
from lcakit.record.objective.checks import usable_device
from lcakit.record.objective.described import Described
from lcakit.record.objective.isolation import PRECISIONS, Numerics, generators_kept
from lcakit.record.objective.live import LiveModel
from lcakit.record.objective.losses.resolve import BatchLoss, Loss, chosen_loss
from lcakit.record.objective.sweep import Evaluation
from lcakit.record.objective.targets import no_classes
from lcakit.record.objective.waiting import let_threads_sleep
from lcakit.record.objective.with_loss import with_loss
from lcakit.trajectory.arguments import checks_creation, checks_itself

__all__ = ["Evaluation", "Objective"]


def __dir__() -> list[str]:
    return __all__


_NOISE_SEED = 0
_SHORT = 0.5  # seconds: a pass that can be repeated to warm up


@checks_creation
class Objective(Described):
    r"""The mean loss of a model over a fixed evaluation set, and its gradient with respect to all parameters.

    .. math:: L(θ) = \frac1N \sum_n \ell(f_θ(x_n), y_n), \qquad
              L_c(θ) = \frac1N \sum_{n: y_n = c} \ell_n(θ), \qquad L = \sum_c L_c

    The evaluation set is normally the entire training set. Dropout is off. BatchNorm in training mode normalizes by the
    statistics of the evaluation batch, over a fixed partition of the set (its order, ``batch_size``), and changes
    nothing. The model is copied: no call changes its weights, mode or buffers, or any random generator.
    Changes of its parameters are followed, those of frozen parameters and buffers only with :meth:`refresh`.

    Parameters
    ----------
    model
        Any ``nn.Module``, also inside DataParallel or ``torch.compile``. Parameters that require no gradient when the
        objective is made are not part of θ. Tied parameters count once.
    data
        ``(x, y)`` arrays or tensors of N examples, ``x`` (N, …) and ``y`` (N,) or (N, …). With ``batch_loss``: a tuple,
        a mapping or any nesting of such arrays, or a list of batches. Or a map-style Dataset (also of the package
        datasets), or a DataLoader, of which Dataset, collate function and batch size are taken, not the order.
    loss
        Of outputs: ``"cross_entropy"`` or ``"bce"`` (nats), ``"mse"`` (squared error), or a callable
        ``(output, y) -> losses`` that returns one value per example, (n,), or ``(losses, weights)``. What learns in a
        loss that is an ``nn.Module`` is part of θ, in layers of its own (``loss``, ``loss.head``, …); one with
        parameters that no optimizer holds is best frozen (``requires_grad_(False)``), which leaves them out.
    class_names
        Names of the C classes. With cross-entropy they are ``"0", "1", …`` by default; with another loss, integer y are
        classes only if they are named.
    batch_size
        Examples per chunk; ``"auto"`` chooses by activation memory. Without batch coupling it changes nothing but the
        time. With BatchNorm it is part of the objective (``"auto"`` = 500 on every machine).
    device
        Where to evaluate; the device of the model by default.
    precision
        ``"float32"``, ``"float64"``, ``"tf32"`` (GPU matrix products) or ``"bfloat16"`` (autocast).
    workers
        Threads that evaluate chunks at the same time on a CPU; ``"auto"`` uses torch's number of threads, at most 8,
        and where a pass is too small for them evaluates several θ at the same time (the nodes of a move). Sums are
        formed in a fixed order, so results repeat bit by bit for the same number.
    together
        How many θ :meth:`evaluate_all` evaluates at once, as :func:`lcakit.allocate` and ``allocate="later"`` do: they
        know the path. Faster where a network is too small to keep the device busy, slower elsewhere
        (``lcakit bench together``). The results are the same up to rounding. Not with BatchNorm.
    batch_loss
        In place of ``loss``: ``(model, batch) -> losses`` or ``(losses, weights)``, where losses are (n, …): the first
        dimension is the examples of the batch, further ones are positions inside them. Then
        :math:`L = \sum w\ell / \sum w` over the whole set, a mean over tokens, say. :mod:`lk.losses
        <lcakit.record.objective.losses>` has some. What it holds that learns belongs into an ``nn.Module``, as above.
    collate_fn
        Makes a batch of a list of a Dataset's items; PyTorch's own by default.
    groups, group_names, group_kind
        Groups in place of classes: integers from 0 on, one for each example (N,) or each loss (N, …), or a function of
        the batch that returns them; their names; and the word for one, such as ``"domain"``. Groups of examples cost
        nothing extra where examples do not couple, those of positions a backward pass each (:attr:`class_factor`).
    weights
        One for each example, not negative: L is the weighted mean.
    resident
        Whether examples stay in memory. ``"auto"``: a Dataset that takes more than half of what is free is read anew
        in each pass, by as many processes as its DataLoader has. A Dataset that augments at random is read once. Those
        that stay are a copy: what a loop writes into its arrays later is none of the objective's.
    fixed_noise
        Give each batch the same random numbers in each pass, so that the loss of a network that draws some (a
        variational autoencoder) is a function of θ.
    norm
        What norm layers with running statistics use: ``"batch"``, the statistics of the evaluation batch;
        ``"running"``, their running statistics as they are; ``"auto"``, the latter for those in eval mode now.

    Attributes
    ----------
    model : Module
        The model as it was given; together with its loss where that has parameters or buffers.
    labels : lcakit.trajectory.labels.Labels
        The layout of θ: names, shapes, roles and layers of its tensors.
    class_names : tuple of str or None
        Names of the classes or groups; None where there are none.
    class_kind : str
        ``"class"``, or the word for a group.
    batch_coupling : bool
        True where a layer makes the loss of one example depend on its batch.
    norm_mode : str
        ``"evaluation_batch"`` with batch coupling, ``"running"`` (or ``"mixed"``) where norm layers use running
        statistics, else ``"none"``.
    device, precision : torch.device, str
        Where evaluations run, and how precisely.
    loss_name, loss_unit : str
        Name of the loss, and the unit of L: ``"nats"``, ``"squared error"`` or ``"loss units"``.
    data_fingerprint, model_fingerprint : str
        SHA-256 of the examples, and of the model's structure and parameter names (not of its weights).
    evaluations, seconds : int, float
        Full-set gradients computed so far, and the time that they took in seconds.

    Raises
    ------
    ObjectiveError
        If the data, labels, loss or model cannot be used; the message says what is wrong and what to do.
    ValueError
        For an unknown name of a loss or precision.

    Examples
    --------
    >>> import torch
    >>> import lcakit as lk
    >>> _ = torch.manual_seed(0)
    >>> x, y = torch.randn(30, 4), torch.arange(30) % 3
    >>> objective = lk.Objective(torch.nn.Linear(4, 3), (x, y))
    >>> objective.n_parameters, objective.n_examples, objective.class_names
    (15, 30, ('0', '1', '2'))
    >>> objective.gradient().shape, objective.gradient(classes=True).shape
    ((15,), (3, 15))
    >>> bool(abs(objective.class_losses().sum() - objective.loss()) < 1e-12)
    True
    """

    @checks_itself(
        model=Any,
        batch_loss=Any,
        together=Any,
        class_names=Sequence[str] | str | None,
        group_names=Sequence[str] | str | None,
    )
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
        *,
        batch_loss: BatchLoss | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        groups: Any = None,
        group_names: Sequence[str] | None = None,
        group_kind: str = "group",
        weights: Any = None,
        resident: bool | str = "auto",
        fixed_noise: bool = False,
        norm: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        example_loss = chosen_loss(loss, batch_loss, class_names, groups, group_names)
        self.model = with_loss(model, example_loss.function)
        self._live = LiveModel(self.model)
        self.device = usable_device(device if device is not None else self._live.device)
        let_threads_sleep()
        self.precision, self.together = precision, together
        self._numerics = Numerics(self.device, precision)
        self.loss_name, self.loss_unit = example_loss.name, example_loss.unit
        self.noise_seed = _NOISE_SEED if fixed_noise else None
        noise, kind = self.noise_seed, group_kind
        wanted = Wanted(data, class_names, groups, group_names, kind, weights, collate_fn, resident, noise, norm)
        with generators_kept(data), torch.inference_mode(False):
            division = Division(batch_size, workers, together)
            parts = build(self._live, wanted, example_loss, self._numerics, division)
        self.labels, self.data, self.class_names = parts.labels, parts.data, parts.groups.names
        self.class_kind, self.batch_coupling, self.norm_mode = parts.groups.kind, parts.data.keep_order, parts.norm_mode
        self.model_fingerprint, self.data_fingerprint = parts.model_fingerprint, parts.data_fingerprint
        self._evaluator = parts.evaluator
        self.evaluations, self.seconds = 0, 0.0
        self._timed: dict[bool, float] = {}

    def loss(self, theta: Any = None) -> float:
        """Return the mean loss over the evaluation set.

        Parameters
        ----------
        theta
            Parameters (K,), array or tensor; the model's present ones by default.

        Returns
        -------
        float
            L(θ), in ``loss_unit``.

        Raises
        ------
        ObjectiveError
            For θ of another shape, or if the device has too little memory.
        """
        return self.evaluate(theta, gradient=False).loss

    def class_losses(self, theta: Any = None) -> np.ndarray:
        """Return the part of the loss that each class contributes.

        Parameters
        ----------
        theta
            As for :meth:`loss`.

        Returns
        -------
        ndarray
            L_c(θ), float64 (C,); they sum to the loss.

        Raises
        ------
        ObjectiveError
            As for :meth:`loss`, and if the objective has no classes.
        """
        losses = self.evaluate(theta, gradient=False).class_losses
        if losses is None:
            raise no_classes()
        return losses

    def gradient(self, theta: Any = None, classes: bool = False) -> np.ndarray:
        """Return the gradient of the loss over the whole evaluation set.

        Parameters
        ----------
        theta
            As for :meth:`loss`.
        classes
            Return one gradient for each class.

        Returns
        -------
        ndarray
            ∇L(θ) (K,), or ∇L_c(θ) (C, K) with ``classes=True``, which sum to ∇L; float64 in that precision, else
            float32.

        Raises
        ------
        ObjectiveError
            As for :meth:`loss`, and for ``classes=True`` if the objective has no classes.
        """
        gradient = self.evaluate(theta, classes=classes, accuracy=False).gradient
        return gradient.cpu().numpy() if gradient is not None else np.zeros(0)

    def evaluate(
        self, theta: Any = None, *, gradient: bool = True, classes: bool = False, accuracy: bool = True
    ) -> Evaluation:
        """Make one pass over the evaluation set.

        Parameters
        ----------
        theta
            As for :meth:`loss`.
        gradient, accuracy
            Compute them; without a gradient a pass takes about a third of the time.
        classes
            Compute the gradient of each class.

        Returns
        -------
        Evaluation
            ``loss``, ``class_losses`` (C,), ``accuracy`` and ``gradient``, a tensor (K,) or (C, K) on the device.

        Raises
        ------
        ObjectiveError
            As for :meth:`gradient`.
        """
        if classes and self.class_names is None:
            raise no_classes()
        self._evaluator.load(self.parameters_tensor() if theta is None else theta)
        began = time.perf_counter()
        result = self._evaluator.evaluate(gradient=gradient, classes=classes, accuracy=accuracy)
        if gradient:
            self._timed[classes] = time.perf_counter() - began
            self.evaluations += 1
            self.seconds += self._timed[classes]
        return result

    def evaluate_all(self, thetas: torch.Tensor, *, classes: bool = False) -> list[Evaluation]:
        """Evaluate several θ, :attr:`at_once` of them at a time.

        Parameters
        ----------
        thetas
            Parameters (S, K).
        classes
            Compute the gradient of each class.

        Returns
        -------
        list of Evaluation
            One for each θ, as from :meth:`evaluate`.

        Raises
        ------
        ObjectiveError
            As for :meth:`gradient`.
        """
        way = self._evaluator.together or self._evaluator.beside
        if way is None:
            return [self.evaluate(theta, classes=classes) for theta in thetas]
        if classes and self.class_names is None:
            raise no_classes()
        began = time.perf_counter()
        found = self._evaluator.evaluate_all(way, thetas, self.at_once, classes)
        if way is self._evaluator.beside:
            self._timed[classes] = (time.perf_counter() - began) / len(thetas)
        self.evaluations += len(thetas)
        self.seconds += time.perf_counter() - began
        return found

    def warm_up(self) -> None:
        """Make the first passes, which are slow, without counting them: a GPU loads its kernels, a CPU maps memory."""
        began = time.perf_counter()
        self.evaluate(gradient=self.device.type == "cuda")
        if time.perf_counter() - began < _SHORT:
            self.evaluate()
        self.evaluations, self.seconds, self._timed = 0, 0.0, {}

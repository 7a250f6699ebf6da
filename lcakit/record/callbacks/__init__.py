"""Callbacks that record the training of other libraries' trainers.

``lk.callbacks.TrainerCallback`` is for ``Trainer`` of Hugging Face's transformers, ``lk.callbacks.LightningCallback``
for ``Trainer`` of Lightning. Each is one more entry in the trainer's list of callbacks, and makes a
:class:`lcakit.Recorder` when training begins: training itself is not changed.

Examples
--------
>>> callback = lk.callbacks.TrainerCallback("run.nc", objective)  # doctest: +SKIP
>>> transformers.Trainer(model, args, train_dataset=data, callbacks=[callback]).train()  # doctest: +SKIP
"""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {
    "TrainerCallback": "lcakit.record.callbacks.transformers_trainer",
    "LightningCallback": "lcakit.record.callbacks.lightning_trainer",
}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC, "lk.callbacks")

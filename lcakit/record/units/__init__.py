r"""What the units of a network are: a table from types of modules to the axes of their parameters, which users extend.

A unit is a neuron, an output channel, a row of an embedding, a head, …: the parameters that one output of a layer owns.
Sums over units (``lca_unit_class``, ``by="unit"``) are only worth something where that is known, so it is looked up in
this order, and never guessed:

1. the rule that :func:`register` was given for the module that owns the parameter, or for one that contains it;
2. the table of PyTorch's layers and of some of other libraries (:func:`table`);
3. the parameter's name, for embeddings of classes and positions (``cls_token``, ``pos_embed``) and LoRA's ``lora_A``;
4. a numerical probe on two examples: every entry of the parameter may move one place of the output only;
5. ``"none"``: all entries are of one unit, that of the layer. The file says so in ``tensor_unit``.

A rule says in words which axis is what (:mod:`lcakit.trajectory.unit_axes`).

Examples
--------
>>> import torch, lcakit as lk
>>> class Cross(torch.nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.table = torch.nn.Parameter(torch.zeros(4, 3))  # (inputs, outputs)
>>> lk.units.register(Cross, {"table": "input unit"})
>>> lk.units.of(Cross())
{'table': Units(axes='input unit', kind='neuron', first=0)}
>>> lk.units.register(torch.nn.MultiheadAttention, lk.units.by_head)  # heads instead of the rows of q, k and v
>>> attention = torch.nn.MultiheadAttention(8, num_heads=2)
>>> lk.units.of(attention)["in_proj_weight"]
Units(axes='(unit=6 tap) input', kind='head', first=0)
>>> for changed in (Cross, torch.nn.MultiheadAttention):
...     lk.units.register(changed, None)  # as it was
"""

from __future__ import annotations

from lcakit.record.units.lookup import of
from lcakit.record.units.table import Rule, Units, by_head, register, table

__all__ = ["Rule", "Units", "by_head", "of", "register", "table"]


def __dir__() -> list[str]:
    return __all__

"""Ways to change a valid trajectory, for :mod:`tests.support.fuzz`: bytes, forged structures, attributes, tables;
types, filters, links and references of HDF5; segments and the folder of a recording; Zarr stores; servers, registries.

Each way takes a random generator and leaves a mutated file; it says whether the file now contradicts itself (then it
must be refused or reported), and whether bytes of the data themselves were touched (then numbers may differ).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.mutations.common import Mutation, Skip, claims
from tests.support.mutations.content import (
    change_attribute,
    change_name,
    change_table,
    change_type,
    declare_huge,
    drop_variables,
    shorten_dimension,
    shorten_variable,
)
from tests.support.mutations.folders import change_folder
from tests.support.mutations.forged import forge_block, forge_sizes, lookup3
from tests.support.mutations.raw_bytes import (
    change_bytes,
    change_index,
    change_text,
    cut_short,
    flip_bit,
    move_bytes,
    swap_blocks,
)
from tests.support.mutations.segments import Trap, change_segment, trapped
from tests.support.mutations.servers import change_registry, judge_registry, lie
from tests.support.mutations.stores import change_store_file, change_store_metadata
from tests.support.mutations.structure import (
    add_many,
    change_dimensions,
    change_library_attribute,
    change_link,
    change_stored_type,
)

__all__ = ["Trap", "claims", "judge_registry", "lookup3", "mutate", "trapped"]


Way = Callable[[random.Random, dict[str, Any], Path], Mutation]


WAYS: dict[Way, int] = {
    flip_bit: 12,
    change_bytes: 12,
    cut_short: 4,
    move_bytes: 4,
    swap_blocks: 6,
    forge_block: 20,
    forge_sizes: 8,
    change_index: 12,
    change_text: 6,
    change_attribute: 10,
    change_name: 6,
    change_table: 12,
    shorten_variable: 6,
    shorten_dimension: 4,
    drop_variables: 4,
    change_type: 6,
    declare_huge: 4,
    change_segment: 12,
    change_folder: 8,
    change_stored_type: 16,
    change_link: 10,
    change_library_attribute: 20,
    change_dimensions: 10,
    add_many: 2,
    change_store_metadata: 30,
    change_store_file: 14,
    lie: 12,
    change_registry: 6,
}


def mutate(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Make one mutation in an empty folder."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        way = rng.choices(list(WAYS), list(WAYS.values()))[0]
        try:
            mutation = way(rng, truths, folder)
        except Skip:
            continue
        mutation.kind = way.__name__
        return mutation

"""A few of the troubles with disks; ``python -m tests.support.full_disk`` tries all work in all of them."""

from __future__ import annotations

import pytest

from tests.support.full_disk import TROUBLES, WORK, small_disk, trial


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "trouble"),
    [("record", "full"), ("share", "read only"), ("save", "full"), ("zarr", "no inodes"), ("finish", "no inodes")],
)
def test_work_on_a_disk_in_trouble_ends_with_an_error_and_loses_nothing(work, trouble):
    assert work in WORK
    assert trouble in TROUBLES
    try:
        context = small_disk()
        disk = context.__enter__()
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    try:
        trial(disk, work, trouble)
    finally:
        context.__exit__(None, None, None)

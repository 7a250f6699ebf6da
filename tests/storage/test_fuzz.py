from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lcakit.testing import tiny_trajectory
from tests.support import fuzz
from tests.support.mutations import lookup3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory limits and /proc are those of Linux")

MUTATIONS = 200


@pytest.mark.slow
def test_mutated_files_are_refused_reported_or_unchanged():
    answers = fuzz.run(range(MUTATIONS), seed=0, workers=2)
    assert len(answers) == MUTATIONS
    assert not fuzz.failures(answers), "\n".join(fuzz.failures(answers))
    kinds = {answer["kind"] for answer in answers}
    outcomes = {answer["outcome"] for answer in answers}
    assert len(kinds) > 12  # every way of spoiling a file was tried
    assert outcomes >= {"refused", "reported", "unchanged"}


@pytest.fixture
def workers():
    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(fuzz.Worker, (0, 0)))
    yield started
    for worker in started:
        worker.close()


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_is_told_and_replaced(workers, monkeypatch):
    dying, hanging = workers
    dying._process.kill()
    answer = dying.judge(0)
    assert answer["outcome"] == "CRASH: SIGKILL"
    assert answer["dead"]
    assert fuzz.failures([answer]) == ["0: ? (making it): CRASH: SIGKILL"]
    monkeypatch.setattr(fuzz, "DEADLINE", 0.0)
    assert hanging.judge(0)["outcome"].startswith("HANG")


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        from lcakit.trajectory import schema

        patch.setattr(schema, "CHUNK_ITERATIONS", 5)
        patch.setattr(schema, "CHUNK_PARAMETERS", 16)
        return fuzz.originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.slow
def test_the_judge_knows_a_file_that_is_as_it_was(truths):
    for truth in truths.values():
        assert fuzz.judge(truth.path, truth, False, False) == "unchanged"
        assert fuzz.judge(truth.path, truth, False, True) == "data only"
        assert fuzz.judge(truth.path, truth, True, False).startswith("SILENT")


@pytest.mark.slow
def test_the_judge_sees_other_numbers(truths, tmp_path):
    import lcakit as lk

    truth = truths["plain"]
    ds = truth.data.copy(deep=True)
    ds["accuracy"].values[3] += 0.1  # no check can know
    path = lk.save(ds, tmp_path / "other.nc")
    assert fuzz.judge(path, truth, False, False) == "SILENT: accuracy holds other numbers"
    assert fuzz.judge(path, truth, False, True) == "data only"
    path = lk.save(tiny_trajectory(12, seed=1, class_parameters=True), path, overwrite=True)
    assert fuzz.judge(path, truth, False, False).startswith("SILENT")
    assert fuzz.judge(tmp_path / "none.nc", truth, False, False) == "refused"


def test_the_judge_sees_what_is_printed():
    assert fuzz._printed(["fine\n", "also"]) == ""
    assert fuzz._printed(["\x1b[2J"]).startswith("PRINTED")
    assert fuzz._printed(["a" * 200_001]).startswith("PRINTED")


@pytest.mark.parametrize(
    ("text", "checksum"),
    [
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),  # from lookup3.c
    ],
)
def test_lookup3(text, checksum):
    assert lookup3(text) == checksum

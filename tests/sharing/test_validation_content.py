from __future__ import annotations

import re
import zlib

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.sharing.validation import conservation, content, path_pass
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import any_chunks, nothing_computed, rechunked, two_runs
from tests.support.recordings import record

# ---- the numbers of moves, against loops -----------------------------------------------------------------------


def slow_moves(ds: xr.Dataset) -> dict:
    """The definitions, entry by entry."""
    with np.errstate(invalid="ignore"):
        return _slow_moves(*(ds[n].values.astype(np.float64) for n in ("theta", "gradient", "lca")))


def _slow_moves(theta: np.ndarray, gradient: np.ndarray, lca: np.ndarray) -> dict:
    rows, columns = theta.shape
    path = {name: np.zeros(rows) for name in path_pass.PATH}
    own = {name: np.zeros(rows) for name in path_pass.OWN}
    for t in range(rows):
        path["unfinite"][t] = sum(not np.isfinite(x) for x in theta[t])
        own["unfinite"][t] = sum(not np.isfinite(x) for x in gradient[t])
        own["norm2"][t] = sum(x * x for x in gradient[t])
        if t + 1 < rows:
            delta = [theta[t + 1, i] - theta[t, i] for i in range(columns)]
            path["distance2"][t] = sum(d * d for d in delta)
            path["moved"][t] = any(d != 0 for d in delta)
            own["first_order"][t] = sum(g * d for g, d in zip(gradient[t], delta, strict=True))
            own["stuck"][t] = sum(d == 0 and a != 0 for a, d in zip(lca[t], delta, strict=True))
    return {None: path, "": own}


def spoilt(seed: int, iterations: int = 7) -> xr.Dataset:
    """A trajectory in which many things are wrong."""
    rng = np.random.default_rng(seed)
    ds = tiny_trajectory(iterations, seed=seed)
    for name in ("theta", "gradient"):
        for _ in range(int(rng.integers(0, 3))):
            ds[name].values[rng.integers(iterations + 1), rng.integers(61)] = rng.choice([np.nan, np.inf, -np.inf])
    t = int(rng.integers(iterations))
    ds["theta"].values[t + 1] = ds["theta"].values[t]
    ds["lca"].values[:, 4] = rng.integers(0, 2, iterations)  # a frozen parameter
    return ds


def compare(got: dict, expected: dict) -> None:
    assert set(got) == set(expected)
    for key, numbers in expected.items():
        for name, values in numbers.items():
            found = np.asarray(got[key][name])
            found = np.where(found > 0, 1.0, 0.0) if name == "moved" else found
            known = np.isfinite(values)
            np.testing.assert_allclose(found[known], values[known], rtol=1e-4, atol=1e-5, err_msg=name)
            assert not np.isfinite(found[~known]).any(), name


@pytest.mark.slow
@given(any_chunks(), st.integers(0, 20), st.sampled_from([(1, 3), (2, 7), (32, 8192)]))
def test_moves_against_loops_on_any_chunks_and_tiles(chunks, seed, tile):
    ds = spoilt(seed)
    expected = slow_moves(ds)
    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
        patch.setattr(path_pass, "TILE_ROWS", tile[0])
        patch.setattr(path_pass, "TILE_COLUMNS", tile[1])
        with nothing_computed():
            lazy = path_pass.moves(rechunked(ds, chunks))
        compare(lk.compute(lazy, quiet=True), expected)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(any_chunks())
def test_moves_of_runs_and_of_further_objectives(chunks):
    runs = [spoilt(seed) for seed in (3, 4)]
    with np.errstate(invalid="ignore"):
        both = lk.compute(path_pass.moves(rechunked(two_runs(*runs), chunks)), quiet=True)
        for k, run in enumerate(runs):
            one = {key: {name: values[k] for name, values in numbers.items()} for key, numbers in both.items()}
            compare(one, slow_moves(run))
        ds = runs[0].assign(gradient_val=2 * runs[1]["gradient"], lca_val=runs[1]["lca"])
        got = lk.compute(path_pass.moves(rechunked(ds, chunks)), quiet=True)
        second = runs[0].assign(gradient=ds["gradient_val"], lca=ds["lca_val"])
        compare(got, slow_moves(runs[0]) | {"val": slow_moves(second)[""]})


def test_what_is_not_there_is_not_looked_at():
    ds = tiny_trajectory(5)
    assert set(path_pass.moves(ds.drop_vars("theta"))) == {""}
    assert set(path_pass.moves(ds.drop_vars(["gradient", "lca"]))) == {None}
    assert path_pass.moves(ds.drop_vars(["theta", "gradient"])) == {}
    report = lk.validate(ds.drop_vars(["theta", "gradient"]), quiet=True)
    assert report.ok, report
    assert not {"first order", "zero moves", "movement"} & {check.name for check in report.checks}


# ---- snapshots that are not where they belong ------------------------------------------------------------------


def quiet_run(iterations: int = 60) -> xr.Dataset:
    """A run of many small, similar moves."""
    return tiny_trajectory(iterations).isel(snapshot=slice(10, None), iteration=slice(10, None))


def test_a_snapshot_from_elsewhere_is_seen_by_its_moves_alone():
    ds = quiet_run().drop_vars(["gradient", "lca", "lca_unit_class"])
    assert lk.validate(ds, quiet=True)["movement"].status == "pass"
    ds["theta"].values[30] += 5
    found = lk.validate(ds, quiet=True)["movement"]
    assert found.status == "warn"
    assert "iteration 39 moves" in found.figure
    assert "iteration 40 moves" in found.figure


def test_swapped_snapshots_are_seen_by_their_gradients():
    ds = quiet_run()
    ds["theta"].values[[30, 33]] = ds["theta"].values[[33, 30]]
    report = lk.validate(ds, quiet=True)
    assert report["first order"].status == "fail"
    assert report["first order"].figure.startswith("4 of 50")  # the moves to and from either
    assert report["movement"].status == "pass"


def slow_leaps(distance: list[float]) -> list[float]:
    out = []
    for t, own in enumerate(distance):
        near = [d for s, d in enumerate(distance) if s != t and abs(s - t) <= content.AROUND and d > 0]
        out.append(own / float(np.median(near)) if own > 0 and len(near) >= content.AROUND // 2 else 1.0)
    return out


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 100.0]), max_size=60))
def test_leaps_against_a_loop(distance):
    np.testing.assert_allclose(content.leaps(np.array(distance)), slow_leaps(distance))


def test_repeated_snapshots_are_counted_and_named():
    ds = tiny_trajectory(8)
    ds["theta"].values[5] = ds["theta"].values[4]
    found = lk.validate(ds, quiet=True)["repeated snapshots"]
    assert found.status == "warn"
    assert found.figure == "1 moves change nothing, in iteration 4"
    ds["theta"].values[5, 60] = np.nextafter(ds["theta"].values[4, 60], np.float32(9))  # one bit is enough
    assert lk.validate(ds, quiet=True)["repeated snapshots"].status == "pass"
    ds["theta"].values[5] = ds["theta"].values[4]
    ds["theta"].values[4:6, 0] = 0, 1e-30  # a move whose square is 0
    assert lk.validate(ds, quiet=True)["repeated snapshots"].status == "pass"


def test_missing_iterations_are_named():
    ds = tiny_trajectory(12)
    whole = lk.validate(ds, quiet=True)["missing iterations"]
    assert (whole.status, whole.figure) == ("pass", "every step")
    holed = ds.isel(snapshot=[*range(5), *range(8, 13)], iteration=[*range(4), *range(7, 12)])
    holed = holed.assign_coords(iteration=holed["snapshot"].values[:-1])
    found = lk.validate(holed, quiet=True)["missing iterations"]
    assert (found.status, found.figure) == ("warn", "after step 4 the next is 8")
    every = ds.assign_coords(snapshot=10 * ds["snapshot"], iteration=10 * ds["iteration"])
    assert lk.validate(every, quiet=True)["missing iterations"].figure == "every 10 steps"


# ---- rules, rounded copies -------------------------------------------------------------------------------------


def test_a_first_order_recording_is_warned_of_by_name():
    ds = tiny_trajectory(12)
    lca = (ds["gradient"].values[:-1] * np.diff(ds["theta"].values.astype(float), axis=0)).astype(np.float32)
    residual = lca.sum(1, dtype=float) - np.diff(ds["loss"].values)
    ds = ds.assign(lca=(("iteration", "parameter"), lca), residual=("iteration", residual))
    ds = ds.drop_vars("lca_unit_class").assign_attrs(rule="first_order", tolerance=-1.0)
    report = lk.validate(ds, quiet=True)
    assert report.ok, report
    assert report["total"].status == "warn"
    assert "first_order" in report["total"].figure
    assert "rk4" in report["total"].remedy
    assert lk.validate(ds.assign_attrs(rule="rk4"), quiet=True)["total"].status == "fail"
    assert lk.validate(ds.assign_attrs(rule_val="first_order", rule="rk4"), quiet=True)["total"].status == "fail"


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent).astype(np.float32)


@pytest.mark.parametrize("bits", [3, 6, 9, 14])
def test_rounded_copies_are_judged_by_what_was_kept(bits):
    ds = tiny_trajectory(12, class_parameters=True)
    names = ("gradient", "lca", "lca_class", "lca_unit_class")
    ds = ds.assign({name: (ds[name].dims, rounded(ds[name].values, bits)) for name in names})
    plain = lk.validate(ds, quiet=True)
    assert not plain.ok
    report = lk.validate(ds.assign_attrs(keepbits=bits), quiet=True)
    assert report.ok, report
    assert report["rounding"].status == ("warn" if bits < 6 else "pass")
    assert "rounding" not in {check.name for check in plain.checks}
    worse = ds.assign(lca=ds["lca"] * np.float32(1 + 2.0**-bits))
    assert not lk.validate(worse.assign_attrs(keepbits=bits), quiet=True).ok


@pytest.mark.parametrize(
    ("attrs", "error"),
    [
        ({}, 0),
        ({"keepbits": 23}, 0),
        ({"keepbits": 0}, 0),
        ({"keepbits": "many"}, 0),
        ({"keepbits": np.int64(9)}, 2**-10),
        ({"keepbits": 9, "largest_relative_error": 1e-4}, 2**-10),
        ({"keepbits": 9, "largest_relative_error": 1.5 * 2**-10}, 1.5 * 2**-10),
        ({"keepbits": 9, "largest_relative_error": 0.5}, 2**-9),  # a file cannot ask for any patience
        ({"keepbits": 9, "largest_relative_error": np.nan}, 2**-10),
        ({"keepbits": 9, "largest_relative_error": "none"}, 2**-10),
    ],
)
def test_how_rounded_a_copy_is(attrs, error):
    assert conservation.rounded_to(tiny_trajectory(2).assign_attrs(attrs)) == error


# ---- groups, progress, errors while reading --------------------------------------------------------------------


def test_structure_reads_no_numbers():
    ds = tiny_trajectory(5, chunks=2)
    with nothing_computed():
        report = lk.validate(ds, groups=["structure"])
    assert {check.group for check in report.checks} == {"structure"}
    assert report.ok
    with pytest.raises(ValueError, match=r"structur.*conservation"):
        lk.validate(ds, groups=["structur"])


def test_groups_choose_what_is_reported():
    report = lk.validate(tiny_trajectory(5), groups=["content"], quiet=True)
    assert {check.group for check in report.checks} == {"content"}
    text = lk.validate(tiny_trajectory(5), quiet=True).to_text()
    assert [line for line in text.splitlines() if not line.startswith("  ")][1:] == [
        " structure",
        " content",
        " conservation",
    ]


def packed(data: bytes, size: int) -> tuple[int, int]:
    """Return where in a file a chunk of ``size`` bytes lies, packed by zlib."""
    for place in (match.start() for match in re.finditer(b"\x78", data)):
        found = zlib.decompressobj()
        try:
            if len(found.decompress(data[place:], size + 1)) == size and found.eof:
                return place, len(data) - len(found.unused_data)
        except zlib.error:
            continue
    raise LookupError("no such chunk")


def test_data_that_cannot_be_read_is_a_finding(tmp_path):
    wide = tiny_trajectory(3, layers=(TensorSpec("w", (4000,), "bias", "w"),), classes=("a",))
    path = lk.save(wide, tmp_path / "run.nc", compression="zlib")
    data = bytearray(path.read_bytes())
    start, stop = packed(bytes(data), 3 * 4000 * 4)
    middle = (start + stop) // 2
    for k in range(middle, middle + 100):
        data[k] ^= 0x55
    path.write_bytes(data)
    report = lk.validate(path, quiet=True)
    assert report["reading"].status == "fail"
    assert "run.nc" in report["reading"].figure


def test_names_that_no_screen_should_show():
    ds = tiny_trajectory(4, classes=("a", "\x1b[2Jb", "\u202ec"))
    report = lk.validate(ds, quiet=True)
    assert report["names"].status == "warn"
    assert "\\x1b[2Jb" in report["names"].figure
    assert "\x1b" not in report.to_text() + report._repr_html_()
    long = lk.validate(tiny_trajectory(4, classes=("a", "b" * 2000, "c")), quiet=True)
    assert long["names"].status == "warn"
    assert len(long.to_text()) < 5000


# ---- segments --------------------------------------------------------------------------------------------------


def wide_run() -> xr.Dataset:
    """Rows so long that opening reads the beginning of a segment only."""
    return tiny_trajectory(9, layers=(TensorSpec("w", (4000,), "bias", "w"),), classes=("a",))


def partial_recording(tmp_path):
    path = tmp_path / "run.nc"
    record(wide_run(), path, block_rows=3).close()
    return path


@pytest.mark.slow
def test_checksums_of_segments(tmp_path):
    path = partial_recording(tmp_path)
    report = lk.validate(path, quiet=True)
    assert report.ok, report
    assert report["segment checksums"].figure == "3 segments intact"
    assert [check.group for check in report.checks] == sorted((c.group for c in report.checks), key=lk_groups)
    segment = partial_path(path) / "000001.npz"
    data = bytearray(segment.read_bytes())
    place = data.find(wide_run()["gradient"].values[5].tobytes())
    data[place + 8000] ^= 1  # the last bit of a number, which no sum would notice
    segment.write_bytes(data)
    found = lk.validate(path, quiet=True)["segment checksums"]
    assert found.status == "fail"
    assert found.figure == "000001.npz: gradient.npy differs from its checksum"
    assert "segment checksums" not in {c.name for c in lk.validate(path, groups=["structure"]).checks}


def lk_groups(group: str) -> int:
    return ("structure", "content", "conservation").index(group)


@pytest.mark.parametrize(("iterations", "status"), [(4, "warn"), (400, "fail")])
def test_a_short_run_may_miss_its_small_change_by_the_tolerance_of_its_iterations(iterations, status):
    """0.8e-3 a move is within the tolerance of 1e-3; over few moves that is more than 1 % of the loss change."""
    change, miss = np.full(iterations, -0.002), 0.8e-3
    loss = np.concatenate([[1.0], 1 + change.cumsum()])
    ds = tiny_trajectory(iterations)
    ds = ds.drop_vars([name for name in ds.data_vars if name not in ("theta", "loss", "lca", "residual", "splits")])
    lca = np.zeros(ds["lca"].shape, np.float32)
    lca[:, 0] = change + miss
    ds = ds.assign(
        loss=("snapshot", loss), lca=(ds["lca"].dims, lca), residual=("iteration", np.full(iterations, miss))
    ).assign_attrs(tolerance=1e-3, rule="rk4")
    total = lk.validate(ds, quiet=True)["total"]
    assert total.status == status
    assert "tolerance=1e-04" in total.remedy
    assert lk.validate(ds.assign_attrs(tolerance=-1.0), quiet=True)["total"].status == "fail"

from __future__ import annotations

import base64
import importlib
import json
import re

import numpy as np
import pytest
from PIL import Image

import lcakit as lk
from lcakit.errors import LcakitError
from lcakit.plot.parameters import parameter_values
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.animation import animation
from lcakit.views.animation import film as painting
from lcakit.views.animation import frames as making
from lcakit.views.animation import player as playing
from lcakit.views.animation.scale import GAP, LEVELS, ZERO, SignedLog, palette, scale_of

IMAGES = (
    TensorSpec("fc1.weight", (3, 16), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (3,), "bias", "fc1", "linear"),
)


def film(ds, layer=None, **options):
    return lk.animate(ds, layer, quiet=True, **options)


def within_a_level(scale, codes, values):
    """Each code is the level of its value: the next weaker level would not reach it."""
    magnitude, levels = np.abs(values), np.abs(codes.astype(int) - ZERO)
    upper, lower = (np.abs(scale.decode(ZERO + np.maximum(levels - k, 0))) for k in (0, 1))
    return (magnitude <= upper * (1 + 1e-5)).all() and (magnitude[levels > 0] >= lower[levels > 0] * (1 - 1e-5)).all()


@pytest.mark.parametrize("quantity", ["lca", "cumulative", "gradient", "movement", "theta"])
@pytest.mark.parametrize(("iterations", "step"), [(None, 1), (slice(3, 10), 3)])
def test_frames_are_the_numbers_of_the_analysis(quantity, iterations, step):
    ds = tiny_trajectory(chunks=5)
    shown = film(ds, "fc", quantity=quantity, iterations=iterations, step=step).frames
    first, last = (0, 11) if iterations is None else (3, 10)
    spans = [(a, min(a + step - 1, last)) for a in range(first, last + 1, step)]
    assert shown.spans == spans
    for codes, (a, b) in zip(shown.codes, spans, strict=True):
        expected = parameter_values(ds.lk.sel(tensor="fc.weight"), quantity, slice(a, b)).values.reshape(4, 6)
        assert (np.sign(expected) == np.sign(codes.astype(int) - ZERO)).all()
        assert within_a_level(shown.scale, codes, expected)


def test_white_is_exactly_zero_and_all_zero_layers_are_white():
    ds = tiny_trajectory()
    shown = film(ds, "fc").frames
    assert ((shown.codes == ZERO) == (ds.lk.unflatten("fc.weight").values == 0)).all()
    assert palette(True)[ZERO] == palette(False)[ZERO] == "#ffffff"
    nothing = film(ds.assign(lca=ds["lca"] * 0), "fc").frames
    assert (nothing.codes == ZERO).all()
    tiny = SignedLog(1e-3, 1.0)
    assert tiny.encode(np.array([1e-30, -1e-30, 0.0, np.nan])).tolist() == [ZERO + 1, ZERO - 1, ZERO, GAP]
    assert tiny.encode(np.array([-1.0, 1.0])).tolist() == [0, 2 * LEVELS]


def test_colour_bar_is_in_data_units():
    scale = scale_of(np.array([-3e-3, 1e-6, 2e-6, 5e-6]))
    for place, text in scale.ticks():
        number = float(text.replace("−", "-"))
        code = round(ZERO + place * LEVELS)
        assert scale.decode(np.array(code)) == pytest.approx(number, rel=0.15)
    assert scale_of(np.zeros(4)).ticks()[1] == (0.0, "0") or (0.0, "0") in scale_of(np.zeros(4)).ticks()


def test_kernels_are_tiles_and_first_layers_images():
    kernels = film(tiny_trajectory(), "conv1").frames
    assert kernels.codes.shape == (12, 3 * 3 - 1, 2 * 3 - 1)
    assert (kernels.codes[:, 2] == GAP).all()
    images = film(tiny_trajectory(layers=IMAGES), "fc1").frames
    assert images.codes.shape[1:] == (2 * 5 - 1, 2 * 5 - 1) or images.codes.shape[1:] == (4, 3 * 5 - 1)


def test_texts_name_iterations_and_loss():
    ds = tiny_trajectory()
    texts = film(ds, "fc", step=5).frames.texts
    assert texts[0] == f"iterations 0 to 4, loss {float(ds['loss'][5]):.4g} nats"
    assert texts[-1] == f"iterations 10 to 11, loss {float(ds['loss'][12]):.4g} nats"


@pytest.mark.slow
def test_gif_has_every_frame_and_its_codes(tmp_path):
    ds = tiny_trajectory()
    path = film(ds, "fc", out=tmp_path / "fc.gif", fps=20)
    codes = film(ds, "fc").frames.codes
    with Image.open(path) as gif:
        assert gif.n_frames == 12
        assert gif.info["duration"] == 50
        for n in (0, 5, 11):
            gif.seek(n)
            pixels = np.asarray(gif.convert("RGB"))
            for code in np.unique(codes[n]):
                colour = tuple(int(palette(True)[code][k : k + 2], 16) for k in (1, 3, 5))
                assert (pixels == colour).all(axis=-1).any(), (n, code)


def test_too_large_a_film_says_which_step_fits(monkeypatch):
    monkeypatch.setattr(making, "MOST_BYTES", 100)
    ds = tiny_trajectory()
    with pytest.raises(ValueError, match=r"12 frames of 4 × 6 .*step=3") as refused:
        film(ds, "fc")
    assert len(film(ds, "fc", step=int(re.search(r"step=(\d+)", str(refused.value))[1])).frames.codes) == 4
    monkeypatch.setattr(making, "MOST_BYTES", 64_000_000)
    monkeypatch.setattr(making, "MOST_NUMBERS", 3 * 4 * 24)
    with pytest.raises(ValueError, match=r"step=4"):
        film(ds, "fc")
    assert len(film(ds, "fc", step=4).frames.codes) == 3


def test_wrong_use_is_said_before_anything_is_read(tmp_path, monkeypatch):
    ds = tiny_trajectory()
    for options, said in (
        ({"out": tmp_path / "a.avi"}, r"\.gif"),
        ({"out": tmp_path / "a.gif", "fps": 0}, "above 0; got 0"),
        ({"quantity": "colour"}, "movement"),
        ({"layer": "fd"}, "fc"),
        ({"step": 0}, "at least 1"),
        ({"iterations": slice(0, 99)}, "0 to 11"),
    ):
        with pytest.raises(ValueError, match=said):
            lk.animate(ds, **({"layer": "fc", "quiet": True} | options))
    import_module = importlib.import_module
    missing = ModuleNotFoundError("no", name="imageio_ffmpeg")

    def without(name, *rest):
        if name == "imageio_ffmpeg":
            raise missing
        return import_module(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(LcakitError, match="pip install imageio-ffmpeg"):
        film(ds, "fc", out=tmp_path / "a.mp4")


def test_what_cannot_be_written_is_said_before_frames_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "frames_of", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(LcakitError, match=r"cannot write .*a\.gif"):
        film(tiny_trajectory(), "fc", out=tmp_path / "file" / "a.gif")


def test_mp4_is_written(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    path = film(tiny_trajectory(), "fc", out=tmp_path / "a.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".html"])
def test_a_film_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, suffix):
    shown, path = film(tiny_trajectory(), "fc"), tmp_path / f"fc{suffix}"
    path.write_bytes(b"old")

    def half(*_, **__):
        raise OSError(28, "No space left on device")

    for module, name in ((painting, "_images"), (painting, "require_encoder"), (playing, "page")):
        monkeypatch.setattr(module, name, half)
    with pytest.raises(LcakitError, match=rf"cannot write .*fc{suffix}: No space left on device"):
        shown.save(path, quiet=True)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(path.name, b"old")]
    with pytest.raises(LcakitError, match="cannot write"):
        shown.save(path / f"below_a_file{suffix}", quiet=True)


EVIL = (TensorSpec("</script><script>alert(1)</script>.weight", (4, 6), "kernel", "evil", "linear"),)


def test_player_holds_all_frames_and_nothing_else(tmp_path):
    shown = film(tiny_trajectory(layers=EVIL))
    page = shown.save(tmp_path / "film.html").read_text()
    assert page.count("</script>") == 3
    assert not re.search(r"(?:src|href)\s*=", page)
    held = base64.b64decode(re.search(r'id="codes">([^<]*)<', page)[1])
    assert held == shown.frames.codes.tobytes()
    assert json.loads(re.search(r'id="film">([^<]*)<', page)[1])["texts"] == shown.frames.texts
    assert "srcdoc" in shown._repr_html_()
    assert "<script" not in shown._repr_html_()

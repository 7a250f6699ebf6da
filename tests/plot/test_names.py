"""Names from a file are drawn as text, whatever is in them."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document

from tests.support.pictures import BACKENDS, DS, hv, plot

ODD = ["</script><img src=x onerror=f()>", "$a_b$ $$x^2$$", "{x} a\nb"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_names_are_drawn_as_they_are(backend):
    ds = DS.assign_coords(layer=("layer", ODD), **{"class": ("class", ["iteration", "{}", "$q$"])})
    title = plot.unit_map(ds, ODD[2], backend=backend)
    legend = plot.class_curves(ds, 1, ODD[1], backend=backend)
    figures = [hv.render(picture, backend=backend) for picture in (title, legend, plot.layers(ds, backend=backend))]
    if backend == "bokeh":
        texts = [figures[0].title.text, figures[1].legend[0].items[0].label.value]
        ticks = figures[2].xaxis[0].major_label_overrides.values()
        assert "$$" not in figures[1].title.text  # Bokeh reads a pair of these as TeX
    else:
        texts = [figures[0].axes[0].get_title(), figures[1].axes[0].get_legend().get_texts()[0].get_text()]
        ticks = [tick.get_text() for tick in figures[2].axes[0].get_xticklabels()]
        assert r"\$a_b\$" in figures[1].axes[0].get_title()
    assert texts[0] == "LCA of the units of {x} a b"
    assert texts[1] == "class iteration"
    tag = ODD[0].replace("<", "‹") if backend == "bokeh" else ODD[0]
    assert tag in ticks


@pytest.mark.slow
def test_names_do_not_end_a_script_of_the_page():
    evil = [f"</script><script>f({n})" for n in range(3)]
    ds = DS.copy(deep=True).assign_coords(layer=("layer", evil), **{"class": ("class", evil)})
    ds.attrs["loss_unit"] = evil[2]
    for name in ds.variables:
        ds[name].attrs |= {"units": evil[0], "long_name": evil[1]}
    pictures = [
        plot.loss(ds),
        plot.residual(ds),
        plot.parameter_map(ds, evil[2]),
        plot.detail(ds, 3),
        plot.saliency(ds, 1, evil[2], shape=(2, 3)),
        plot.lca_histogram(ds),
        plot.tail_fits(ds),
        plot.train_validation(ds),
        plot.cumulative(ds),
        plot.layers({evil[0]: ds, "b": ds}),
        plot.layer_map(ds),
        plot.layers_over_time(ds),
        plot.peaks(ds, 5),
        plot.class_curves(ds, 1, evil[1]),
        plot.unit_map(ds, evil[2]),
        plot.overfitting_map(ds),
    ]
    document = Document()
    for picture in pictures:
        document.add_root(hv.render(picture, backend="bokeh"))
    text = json.dumps(document.to_json(), default=str, ensure_ascii=False)
    assert "‹/script>‹script>f(2)" in text
    assert "</script" not in text

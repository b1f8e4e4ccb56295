"""The picture: a map per kind and the curves, whatever kinds are called."""

from pathlib import Path

import pytest

from shortstack.exits.plot import plot_report
from tests.unit.exits.builders import BAD, GOOD, make_report

pytest.importorskip("matplotlib")


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    plot_report(make_report({"math": [GOOD], "code": [BAD]}), tmp_path / "exits.png")
    assert (tmp_path / "exits.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_is_drawn_for_all_and_for_every_kind() -> None:
    from shortstack.exits.plot import make_figure

    kinds = {name: [GOOD] for name in ("a", "b", "c", "d", "$x$", "_e", "all texts")}
    figure = make_figure(make_report(kinds))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.partition(":")[0] for title in titles[:-1]] == ["all texts", *kinds]
    assert titles[-1] == "agreement with the last layer"
    assert all(" x at E " in title for title in titles[:-1])


def test_a_single_kind_is_drawn_once() -> None:
    from shortstack.exits.plot import make_figure

    figure = make_figure(make_report({"math": [GOOD]}))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 2
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert len(numbers) == 3 * 4
    assert len(figure.axes[0].patches) == 1

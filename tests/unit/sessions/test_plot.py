"""The picture of one session."""

from pathlib import Path

import pytest

from shortstack.sessions.plot import GROUND_COLOURS, make_figure, plot_timeline
from shortstack.sessions.reasons import REASONS
from tests.unit.sessions.builders import MIXED, drafted, plain, timeline

pytest.importorskip("matplotlib")


def test_the_picture_is_a_png_with_something_in_it(tmp_path: Path) -> None:
    from matplotlib.image import imread

    plot_timeline(MIXED, tmp_path / "session.png")
    assert (tmp_path / "session.png").read_bytes().startswith(b"\x89PNG")
    pixels = imread(tmp_path / "session.png")
    assert pixels.shape[0] > 500
    is_white = (pixels[..., :3] == 1.0).all(axis=-1)
    assert 0.05 < 1 - is_white.mean() < 0.9


def test_panels_share_their_rounds() -> None:
    figure = make_figure(MIXED)
    exits, lengths, acceptance = figure.axes
    assert [each.get_ylabel() for each in figure.axes] == [
        "exit layer E", "drafts", "drafts accepted, share",
    ]  # fmt: skip
    assert exits.get_xlim() == lengths.get_xlim() == acceptance.get_xlim() == (0, 123)
    drawn = exits.lines[0]
    own = [each for each in MIXED.rounds if not each.is_plain]
    assert list(drawn.get_xdata()) == [each.round_index for each in own]
    assert list(drawn.get_ydata()) == [each.exit_layer for each in own]
    # Bars, then those of the kept ones, then plain grounds.
    heights = [bar.get_height() for bar in lengths.patches[: 2 * len(own)]]
    assert heights == [
        *(each.draft_len for each in own),
        *(each.num_accepted for each in own),
    ]


def test_plain_rounds_alarms_and_methods_are_in_the_legend() -> None:
    figure = make_figure(MIXED)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["layerskip: kept", "layerskip: drafted"]
    assert labels[-4:] == ["plain: cold", "plain: unprofitable", "plain: guard", "change alarm"]
    alarms = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in alarms] == [55]


def test_the_title_names_session_and_cell() -> None:
    title = make_figure(MIXED).get_suptitle()
    assert title.startswith("session ses-1 on cell-0\npolicy goodput")


def test_rounds_without_any_draft_can_be_drawn() -> None:
    figure = make_figure(timeline([plain("shed"), plain("astral")]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["most drafts, d", "plain: shed", "plain: astral"]
    assert len(make_figure(timeline([drafted(4, 1)])).axes) == 3


def test_every_reason_of_a_plain_round_has_a_colour_of_its_own() -> None:
    plain_reasons = {name for name, meaning in REASONS.items() if meaning.startswith("plain")}
    assert plain_reasons <= set(GROUND_COLOURS)
    assert set(GROUND_COLOURS) <= set(REASONS)
    assert len(set(GROUND_COLOURS.values())) == len(GROUND_COLOURS)

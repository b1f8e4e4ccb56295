"""What is refused before anything takes long, and in which words."""

from pathlib import Path

import pytest

from shortstack.errors import UsageError
from shortstack.exits.options import (
    check_thresholds,
    require_package,
    require_picture,
    require_writable,
)


def test_thresholds_are_sorted_and_each_is_kept_once() -> None:
    assert check_thresholds("--thresholds", (0.5, 0.0, 0.5)) == (0.0, 0.5)


@pytest.mark.parametrize(("values", "words"), [((), "at least one"), ((0.2, 1.5), "1.5 is no")])
def test_thresholds_that_are_no_confidences_are_refused(
    values: tuple[float, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_thresholds("--thresholds", values)


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(UsageError, match=r"pip install 'shortstack-serve\[plot\]'"):
        require_package("no_such_package", "plot", "--plot")


def test_a_picture_must_be_a_png() -> None:
    with pytest.raises(UsageError, match=r"must end in \.png"):
        require_picture("--plot", Path("exits.jpg"))


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    require_writable("--json", tmp_path / "new" / "out.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old.json").write_text("kept")
    require_writable("--json", tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "kept"


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "out.json"):
        with pytest.raises(UsageError, match="--json: cannot write"):
            require_writable("--json", path)

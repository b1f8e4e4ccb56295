"""The file that tells a replay what steps take between processes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from shortstack.bench.control.fit import Fit, read_fit
from shortstack.errors import UsageError

FIT = Fit(3e5, 2e5, 1.4, 1.1, 1.3)


def test_a_result_of_a_stack_tells_its_fit(tmp_path: Path) -> None:
    file = tmp_path / "live.json"
    file.write_text(json.dumps({"fit": asdict(FIT), "kinds": []}))
    assert read_fit(file) == FIT


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"fit": null}', '{"fit": {"pass_stretch": 1.3}}', '{"fit": {"a": 1}}'],
)
def test_what_tells_no_fit_is_refused_and_says_what_does(tmp_path: Path, text: str) -> None:
    file = tmp_path / "live.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="policies-live --measure-costs"):
        read_fit(file)
    with pytest.raises(UsageError, match="cannot read"):
        read_fit(tmp_path / "none.json")

"""Files of prompts: what is read, and how a bad line is told."""

from pathlib import Path

import pytest

from shortstack.checking.prompts import PromptLine, read_prompts
from shortstack.errors import UsageError


def test_texts_and_ids_are_read_and_blank_lines_skipped(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Grüße", "id": "a"}\n\n{"token_ids": [1, 2]}\n', encoding="utf-8")
    assert read_prompts(path) == [
        PromptLine(1, text="Grüße"),
        PromptLine(3, token_ids=(1, 2)),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "must be an object"),
        ('"text"', "must be an object"),
        ("{}", "exactly one of"),
        ('{"prompt": "a", "token_ids": [1]}', "exactly one of"),
        ('{"prompt": ""}', "`prompt` must be"),
        ('{"prompt": 3}', "`prompt` must be"),
        ('{"token_ids": []}', "`token_ids` must be"),
        ('{"token_ids": "1 2"}', "`token_ids` must be"),
        ('{"token_ids": [1, 2.5]}', "`token_ids` must be"),
        ('{"token_ids": [true]}', "`token_ids` must be"),
        ('{"token_ids": [-1]}', "negative"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(UsageError, match="line 2") as raised:
        read_prompts(path)
    assert words in str(raised.value)


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n\n")
    with pytest.raises(UsageError, match="holds no prompt"):
        read_prompts(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_prompts(path)

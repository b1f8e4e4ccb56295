"""API keys and their records: hashes only, every fault at once, nothing lost on the way to disk."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.access.api_key import hash_key, is_key, make_key
from shared.access.key_file import read_key_file, signature_of, write_key_file
from shared.access.key_records import KeyFaults, KeyRecord, parse_records

HASH = "sha256:" + "0" * 64


def record(name: str = "a-1", tenant: str = "a", **fields: object) -> KeyRecord:
    """A record of a key of its own."""
    return KeyRecord.model_validate(
        {"name": name, "tenant": tenant, "hash": hash_key(make_key()), **fields}
    )


def test_keys_are_all_different_and_known_by_their_form() -> None:
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(map(is_key, keys))
    assert not any(map(is_key, ("", "shortstack_", "password", next(iter(keys)) + "x", HASH)))


def test_only_what_is_made_here_can_be_hashed() -> None:
    with pytest.raises(AssertionError):
        hash_key("password")


def test_records_survive_the_way_to_a_file_and_back(tmp_path: Path) -> None:
    records = (
        record(max_running=3, tokens_per_s=2.5, burst_tokens=7, max_prompt_len=5),
        record("b-1", "b", disabled=True, expires=datetime(2030, 1, 1, tzinfo=UTC)),
        record("b-2", "b", priorities=("low",), sees_all_tenants=True, max_new_tokens=9),
    )
    path = tmp_path / "keys.jsonl"
    write_key_file(path, records)
    assert read_key_file(path) == records
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_every_fault_of_a_text_is_told_with_its_line() -> None:
    good = record().to_line().strip()
    text = "\n".join(
        [good, "", "{", "[1]", '{"name": "x"}', good.replace('"tenant":"a"', '"tenent":"a"')]
    )
    with pytest.raises(KeyFaults) as caught:
        parse_records(text)
    faults = str(caught.value)
    for part in ("line 3: no JSON object", "line 4: no JSON object", "line 5: tenant",
                 "line 5: hash", "line 6: tenent"):  # fmt: skip
        assert part in faults


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"max_running": -1}, "max_running"),
        ({"tokens_per_s": "NaN"}, "tokens_per_s"),
        ({"expires": "2030-01-01T00:00:00"}, "expires"),
        ({"priorities": []}, "priorities"),
        ({"priorities": ["high"]}, "priorities"),
        ({"hash": "md5:1"}, "hash"),
        ({"tenant": "x" * 65}, "tenant"),
        ({"name": "a\nb"}, "printable"),
        ({"burst_tokens": 5}, "needs its tokens_per_s"),
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, object], fault: str) -> None:
    values = {**record().model_dump(mode="json"), **fields}
    with pytest.raises(KeyFaults, match=fault):
        parse_records(json.dumps(values))


def test_a_key_in_the_place_of_its_hash_is_not_repeated_in_the_fault() -> None:
    key = make_key()
    with pytest.raises(KeyFaults) as caught:
        parse_records(f'{{"name": "a", "tenant": "a", "hash": "{key}"}}')
    assert key not in str(caught.value)


def test_lines_that_contradict_each_other_are_refused() -> None:
    first, second = record(max_running=1), record(max_running=2)
    third = second.model_copy(update={"name": "other", "hash": first.hash})
    with pytest.raises(KeyFaults) as caught:
        parse_records("".join(each.to_line() for each in (first, second, third)))
    faults = str(caught.value)
    assert "two keys are called 'a-1'" in faults
    assert "'a-1' and 'other' are the same key" in faults
    assert "max_running of tenant 'a' is 1 and 2" in faults


def test_a_record_that_is_refused_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    write_key_file(path, (record(),))
    before = path.read_bytes()
    with pytest.raises(KeyFaults):
        write_key_file(path, (record(), record()))
    assert path.read_bytes() == before


def test_a_file_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    write_key_file(path, (record(),))
    path.chmod(0o666)
    with pytest.raises(KeyFaults, match="anybody may write"):
        read_key_file(path)
    with pytest.raises(KeyFaults, match="No such file"):
        read_key_file(tmp_path / "nothing")


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "keys.jsonl", tmp_path / "link"
    link.symlink_to(path)
    write_key_file(path, (record(),))
    before = signature_of(link)
    write_key_file(link, (record(), record("a-2")))
    assert link.is_symlink() and len(read_key_file(path)) == 2
    assert signature_of(link) != before


def test_a_key_expires_at_its_time() -> None:
    now = datetime.now(UTC)
    assert record(expires=now).is_expired(now)
    assert not record(expires=now + timedelta(seconds=1)).is_expired(now)
    assert not record().is_expired(now)

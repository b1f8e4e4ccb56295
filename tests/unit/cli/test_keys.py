"""`shortstack keys` and `certs`: what they print, keep and refuse; and what a client shows."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shared.access.api_key import hash_key, is_key
from shared.access.certificate_authority import ROLE_URI, CertificateAuthority
from shared.access.key_file import read_key_file
from shared.access.tls_files import TlsFiles
from shortstack.access import VARIABLES, read_access
from shortstack.cli import app
from shortstack.errors import UsageError
from shortstack.plan import StackConfig, base_environment


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the keys lie."""
    path = tmp_path / "keys.jsonl"
    monkeypatch.setenv("SHORTSTACK_GATEWAY__API_KEYS_PATH", str(path))
    return path


def run(*arguments: str, stdin: str = "") -> Result:
    """Run a command of `keys`."""
    return CliRunner().invoke(app, ["keys", *arguments], input=stdin)


def test_a_key_is_printed_once_and_only_its_hash_is_kept(path: Path) -> None:
    result = run("new", "acme", "--max-running", "3", "--days", "90", "--only-low")
    assert result.exit_code == 0, result.output
    key = result.stdout.strip()
    (record,) = read_key_file(path)
    assert is_key(key) and record.hash == hash_key(key) and key not in path.read_text()
    assert (record.name, record.tenant, record.max_running) == ("acme-1", "acme", 3)
    assert record.priorities == ("low",) and record.expires is not None

    assert "acme-1" in run("list").stdout and key not in run("list").stdout
    assert "acme-1, of tenant acme: valid" in run("check", stdin=key).stdout
    assert run("revoke", "acme-1").exit_code == 0
    revoked = run("check", stdin=key)
    assert revoked.exit_code == 1 and "revoked" in revoked.stdout


def test_names_are_made_and_never_twice(path: Path) -> None:
    for arguments in (["a"], ["a"], ["b", "--name", "a-3"], ["a"]):
        assert run("new", *arguments).exit_code == 0
    assert [each.name for each in read_key_file(path)] == ["a-1", "a-2", "a-3", "a-4"]
    before = path.read_bytes()
    again = run("new", "a", "--name", "a-1")
    assert again.exit_code == 2 and "two keys are called 'a-1'" in again.stderr
    contradiction = run("new", "a", "--burst-tokens", "5")
    assert contradiction.exit_code == 2 and "needs its tokens_per_s" in contradiction.stderr
    assert path.read_bytes() == before


def test_what_is_wrong_is_said_in_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in run("list").stderr
    path.write_text("{\n")
    faulty = run("check")
    assert faulty.exit_code == 1 and "line 1: no JSON object" in faulty.stderr
    path.write_text("")
    assert "no key called 'x'" in run("revoke", "x").stderr
    unknown = run("check", stdin="shortstack_x")
    assert unknown.exit_code == 1 and "is not in the file" in unknown.stderr
    monkeypatch.delenv("SHORTSTACK_GATEWAY__API_KEYS_PATH")
    assert run("list").exit_code == 2


def test_certs_makes_a_certificate_for_each_role(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    for _ in range(2):
        result = CliRunner().invoke(app, ["certs", str(folder), "--host", "verify.example"])
        assert result.exit_code == 0, result.output
    for role in ("gateway", "verify", "draft", "client"):
        TlsFiles(folder / f"{role}.pem", folder / f"{role}-key.pem", folder / "ca.pem").load()
    assert (folder / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert ROLE_URI.startswith("urn:")


def test_a_client_finds_its_key_and_tls_in_options_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    ca = CertificateAuthority(tmp_path / "ca").ca_path
    assert read_access({}).metadata == () and read_access({}).tls is None
    assert read_access({"SHORTSTACK_API_KEY": "k"}).metadata == (("authorization", "Bearer k"),)
    assert read_access({"SHORTSTACK_API_KEY": "k"}, api_key="own").api_key == "own"
    assert read_access({"SHORTSTACK_API_KEY_FILE": str(file)}).api_key == "from-file"
    assert read_access({"SHORTSTACK_CA": str(ca)}).tls == TlsFiles(ca_path=ca)
    assert read_access({}, ca="system").tls == TlsFiles()
    for environ, fault in (
        ({"SHORTSTACK_API_KEY": "k", "SHORTSTACK_API_KEY_FILE": str(file)}, "one of"),
        ({"SHORTSTACK_API_KEY_FILE": str(tmp_path / "none")}, "API_KEY_FILE"),
        ({"SHORTSTACK_CA": str(file)}, "holds no certificate"),
        ({"SHORTSTACK_CERT": "x"}, "need each other"),
        ({"SHORTSTACK_CERT": "x", "SHORTSTACK_CERT_KEY": "y"}, "needs SHORTSTACK_CA"),
    ):
        with pytest.raises(UsageError, match=fault):
            read_access(environ)


def test_services_of_a_stack_are_not_told_what_the_client_shows() -> None:
    environ = base_environment(StackConfig(model=Path("m")), dict.fromkeys(VARIABLES, "x"))
    assert not VARIABLES & environ.keys()

"""What contract tests share."""

from pathlib import Path

import pytest

from shared.access.certificate_authority import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A CA of the test's own."""
    return CertificateAuthority(tmp_path / "ca")

"""`shortstack certs FOLDER`: a test CA, and a certificate for each role, to try mTLS out."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from shared.access.certificate_authority import CertificateAuthority

ROLES = ("gateway", "verify", "draft", "client")
LOCAL_HOSTS = ["localhost", "127.0.0.1"]


def command(
    folder: Annotated[
        Path, typer.Argument(help="Where the files go; a CA that lies there is kept.")
    ],
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of a service; repeatable.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How long certificates are valid.")] = 30,
) -> None:
    """Make a test CA and a certificate for each role; again: new certificates by the same CA."""
    authority = CertificateAuthority(folder, timedelta(days=days))
    for role in ROLES:
        authority.issue(role, [*LOCAL_HOSTS, *(host or ())], role=role)
    typer.echo(f"{folder}: ca.pem, and NAME.pem with NAME-key.pem for {', '.join(ROLES)}")
    typer.echo("for tests only: the key of the CA lies beside them")

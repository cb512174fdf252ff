"""`assessor key`: keys to try signing with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.terminal import err, out
from assessor.messages import _

app = typer.Typer(help="Signing keys.", no_args_is_help=True)

PASSPHRASE_VARIABLE = "ASSESSOR_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable

PassphraseOption = Annotated[
    str,
    typer.Option(
        envvar=PASSPHRASE_VARIABLE, prompt=True, hide_input=True, help="Passphrase of the key.", metavar="TEXT"
    ),
]


def warning() -> str:
    """What a key made here is worth."""
    return _(
        "A key made here proves nothing to strangers: its certificate comes from a test authority that you made "
        "yourself. For reports that others rely on, use a key from a certificate authority they trust."
    )


@app.command()
def new(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", file_okay=False)] = Path("keys"),
    name: Annotated[str, typer.Option(help="Name of the signer.")] = "Test signer",
    organisation: Annotated[str, typer.Option(help="Organisation of the signer.")] = "Test organisation",
    passphrase: PassphraseOption = "",
) -> None:
    """Make a test certificate authority and a signing key."""
    from assessor.keys import new_key

    made = new_key(directory, name=name, organisation=organisation, passphrase=passphrase)
    told = f"{made.p12}  {_('the key')}\n{made.ca}  {_('the certificate of the test authority, for --trust')}"
    out().print(told, markup=False)
    err().print(warning(), style="yellow")

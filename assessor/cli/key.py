"""`assessor key`: keys to try signing with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import err, out
from assessor.errors import UsageError
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.signers import Key

app = typer.Typer(help="Signing keys.", no_args_is_help=True)

PASSPHRASE_VARIABLE = "ASSESSOR_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
PIN_VARIABLE = "ASSESSOR_TOKEN_PIN"

PassphraseOption = Annotated[
    str,
    typer.Option(
        envvar=PASSPHRASE_VARIABLE, prompt=True, hide_input=True, help="Passphrase of the key.", metavar="TEXT"
    ),
]


LibraryOption = Annotated[
    Path | None,
    typer.Option(help="Sign with a token: the PKCS#11 library of its maker.", metavar="LIBRARY", show_default=False),
]
TokenOption = Annotated[str | None, typer.Option(help="Label of the token.", metavar="LABEL", show_default=False)]
KeyLabelOption = Annotated[
    str | None, typer.Option(help="Label of the key, where the token holds several.", show_default=False)
]


def key_of(file: Path | None, library: Path | None, token: str | None, key_label: str | None) -> Key:
    """The key that the options name.

    Args:
        file: PKCS#12 file.
        library: PKCS#11 library.
        token: Label of the token.
        key_label: Label of the key on it.

    Returns:
        File or token.

    Raises:
        UsageError: They name none, or two.
    """
    from assessor.signers import Token

    if file is not None and library is None and token is None and key_label is None:
        return file
    if file is None and library is not None and token is not None:
        return Token(library, token, key_label)
    raise UsageError("wanted the key that signs: either --key FILE.p12, or --pkcs11 LIBRARY with --token LABEL")


def secret(key: Key) -> str:
    """Passphrase or PIN, from the environment or asked for."""
    is_file = isinstance(key, Path)
    variable = PASSPHRASE_VARIABLE if is_file else PIN_VARIABLE
    words = _("Passphrase of the key") if is_file else _("PIN of the token")
    found = os.environ.get(variable)
    return found if found is not None else str(typer.prompt(words, hide_input=True, err=True))


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
    out().print(f"{made.p12}  {_('the key')}", markup=False)
    out().print(f"{made.ca}  {_('the certificate of the test authority, for --trust')}", markup=False)
    out().print(f"{made.crl}  {_('its revocation list, for --revocation')}", markup=False)
    err().print(warning(), style="yellow")

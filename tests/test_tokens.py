"""Keys on a token: signing with SoftHSM2, and every refusal in words."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.reader import PdfFileReader

from assessor.attestation import attest, verify_envelope
from assessor.canonical import canonical_json
from assessor.cli import main
from assessor.errors import UsageError
from assessor.pdf_signatures import check_signatures
from assessor.signers import Token
from assessor.signing import sign_pdf
from tests.authority import DAY, Pair, pair
from tests.test_attestation import RECORD

PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
LIBRARY = next((Path(place) for place in PLACES if Path(place).is_file()), None)

weasyprint = pytest.importorskip("weasyprint")
pkcs11 = pytest.importorskip("pkcs11", reason="needs python-pkcs11")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or shutil.which("softhsm2-util") is None, reason="needs SoftHSM2: apt-get install softhsm2"
)
PIN = "4711"


class Held(NamedTuple):
    folder: Path
    ca: Pair
    me: Pair

    def token(self, label: str = "audit", key: str | None = "signing") -> Token:
        assert LIBRARY is not None
        return Token(LIBRARY, label, key)

    def sign(self, output: Path, token: Token, pin: str = PIN) -> bytes:
        sign_pdf(self.folder / "plain.pdf", token, output, passphrase=pin, reason="r")
        return output.read_bytes()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """A token with three keys, two of which have a certificate, and the certificate of its issuer and a stranger's."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "audit", "--so-pin", "1234567", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
    now = datetime.now(UTC)
    ca, stranger = (pair(name, None, start=now - DAY, end=now + 99 * DAY) for name in ("CA", "Stranger"))
    me = pair("Tina Token", ca, start=now - DAY, end=now + 99 * DAY)
    curve = pair("Cora Curve", ca, start=now - DAY, end=now + 99 * DAY, curve=True)
    for number, (name, one) in enumerate({"signing": me, "bare": stranger, "curve": curve}.items(), 1):
        der = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / "key.pem").write_bytes(one.key.private_bytes(Encoding.PEM, *der))
        command = ["softhsm2-util", "--import", str(folder / "key.pem"), "--token", "audit", "--pin", PIN]
        subprocess.run([*command, "--label", name, "--id", f"0{number}"], check=True, capture_output=True)
    (folder / "key.pem").unlink()
    token = pkcs11.lib(str(LIBRARY)).get_token(token_label="audit")
    with token.open(user_pin=PIN, rw=True) as session:
        for identity, name, one in ((1, "signing", me), (3, "curve", curve), (8, "ca", ca), (9, "stranger", stranger)):
            session.create_object(certificate(identity, name, one))
    (folder / "ca.pem").write_bytes(ca.pem)
    weasyprint.HTML(string="<title>T</title>x").write_pdf(folder / "plain.pdf")
    yield Held(folder, ca, me)
    os.environ.pop("SOFTHSM2_CONF") if before is None else os.environ.update(SOFTHSM2_CONF=before)


def certificate(identity: int, label: str, one: Pair) -> dict[Any, Any]:
    der = one.certificate.public_bytes(Encoding.DER)
    name = asn1.Certificate.load(der).subject.dump()
    attribute = pkcs11.Attribute
    return {
        attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
        attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
        attribute.TOKEN: True,
        attribute.LABEL: label,
        attribute.ID: bytes([identity]),
        attribute.SUBJECT: name,
        attribute.VALUE: der,
    }


def test_a_report_signed_with_a_token_holds(held: Held, tmp_path: Path) -> None:
    data = held.sign(tmp_path / "a.pdf", held.token())
    found = check_signatures(data, [held.ca.pem])
    assert [finding.name for finding in found if finding.status != "ok"] == ["DeveloperSignature time"]
    assert "Signed in the name of Tina Token." in [finding.sentence for finding in found]
    signature = PdfFileReader(io.BytesIO(data)).embedded_signatures[0]
    names = {one.chosen.subject.native["common_name"] for one in signature.signed_data["certificates"]}
    assert names == {"Tina Token", "CA"}  # and not the stranger's, which lies on the token too


def test_a_statement_signed_with_a_token_holds(held: Held, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(canonical_json(RECORD))
    attest(tmp_path / "r.json", held.token(), tmp_path / "r.intoto.json", passphrase=PIN)
    found = verify_envelope(tmp_path / "r.intoto.json", tmp_path / "r.json", trust=[held.folder / "ca.pem"])
    assert [finding for finding in found if finding.status == "failed"] == []
    assert json.loads((tmp_path / "r.intoto.json").read_bytes())["signatures"][0]["keyid"]


def test_a_key_on_a_curve_signs_too(held: Held, tmp_path: Path) -> None:
    data = held.sign(tmp_path / "a.pdf", held.token(key="curve"))
    found = check_signatures(data, [held.ca.pem])
    assert [finding.name for finding in found if finding.status != "ok"] == ["DeveloperSignature time"]
    assert "Signed in the name of Cora Curve." in [finding.sentence for finding in found]
    (tmp_path / "r.json").write_bytes(canonical_json(RECORD))
    attest(tmp_path / "r.json", held.token(key="curve"), tmp_path / "r.intoto.json", passphrase=PIN)
    told = verify_envelope(tmp_path / "r.intoto.json", trust=[held.folder / "ca.pem"])
    assert [finding for finding in told if finding.status == "failed"] == []


@pytest.mark.parametrize(
    ("label", "key", "pin", "words"),
    [
        ("audit", "signing", "0000", "token 'audit': wrong PIN; most tokens lock themselves"),
        ("audit", "signing", "", "token 'audit': wrong PIN"),
        ("absent", None, PIN, "token 'absent': cannot be opened with .*No token matching"),
        (
            "audit",
            None,
            PIN,
            "token 'audit': wanted one signing key, found '\\w+', '\\w+', '\\w+'; name it",
        ),
        ("audit", "absent", PIN, "token 'audit': wanted one signing key labelled 'absent', found none"),
        ("audit", "bare", PIN, "token 'audit': holds no certificate for the key 'bare'"),
    ],
)
def test_what_does_not_sign_is_told_and_nothing_is_written(
    held: Held, tmp_path: Path, label: str, key: str | None, pin: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        held.sign(tmp_path / "a.pdf", held.token(label, key), pin)
    assert list(tmp_path.iterdir()) == []
    assert held.sign(tmp_path / "a.pdf", held.token())  # and the right one still does


def test_a_key_that_the_token_does_not_sign_with_is_told(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **named: object) -> None:
        raise pkcs11.exceptions.MechanismInvalid

    monkeypatch.setattr("pyhanko.sign.pkcs11.PKCS11Signer._select_pkcs11_signing_params", refused)
    with pytest.raises(UsageError, match="token 'audit': the key does not sign: MechanismInvalid"):
        held.sign(tmp_path / "a.pdf", held.token())
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_none_is_told(held: Held, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such PKCS#11 library"):
        held.sign(tmp_path / "a.pdf", Token(tmp_path / "absent.so", "audit"))
    (tmp_path / "no.so").write_text("no library")
    with pytest.raises(UsageError, match="token 'audit': cannot be opened with"):
        held.sign(tmp_path / "a.pdf", Token(tmp_path / "no.so", "audit"))


def test_the_command_takes_the_pin_from_the_environment(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSESSOR_TOKEN_PIN", PIN)
    options = [
        "--pkcs11",
        str(LIBRARY),
        "--token",
        "audit",
        "--key-label",
        "signing",
        "--output",
        str(tmp_path / "a.pdf"),
    ]
    with pytest.raises(SystemExit) as end:
        main(["sign", str(held.folder / "plain.pdf"), *options])
    assert not end.value.code
    assert (tmp_path / "a.pdf").is_file()

"""Keys and signatures: what is written, who may sign when, and every refusal in words."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, append_signature_field, enumerate_sig_fields
from pyhanko.sign.validation import read_certification_data

from assessor.errors import UsageError
from assessor.keys import KeyFiles, new_key
from assessor.signing import FIELDS, sign_pdf

MOMENT = datetime.now(UTC).replace(microsecond=0)  # the key is made now and holds from now on
WAITING = dict.fromkeys(FIELDS.values(), False)
weasyprint = pytest.importorskip("weasyprint")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    folder = tmp_path_factory.mktemp("keys") / "made" / "on the way"
    return new_key(folder, name="Ada Tester", organisation="Öko & Söhne GmbH", passphrase="pässword")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.pdf"
    weasyprint.HTML(string="<html lang=en><title>Report</title><h1>Report</h1>").write_pdf(path)
    return path


@pytest.fixture(scope="module")
def certified(report: Path, key: KeyFiles) -> Path:
    """Signed by the developer."""
    path = report.with_name("certified.pdf")
    sign(report, key, path, now=MOMENT)
    return path


def sign(source: Path, key: KeyFiles, output: Path, role: str = "developer", **more: object) -> bytes:
    arguments = {"passphrase": "pässword", "role": role, "reason": "Read and agreed", **more}
    sign_pdf(source, key.p12, output, **arguments)  # type: ignore[arg-type]
    return output.read_bytes()


def fields(data: bytes) -> dict[str, bool]:
    return {name: value is not None for name, value, _ in enumerate_sig_fields(PdfFileReader(io.BytesIO(data)))}


def test_importing_the_module_loads_no_pdf_or_key_library() -> None:
    heavy = {"pyhanko", "cryptography", "asn1crypto"}
    code = f"import sys, assessor.signing; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_library_is_told_with_the_way_to_get_it() -> None:
    code = (
        "import sys; sys.modules['pyhanko'] = None\n"
        "from assessor.pdf_signatures import check_signatures\n"
        "from assessor.errors import MissingExtra\n"
        "try: check_signatures(b'%PDF-1.7', [])\n"
        "except MissingExtra as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == ("Signatures on PDF: install the optional packages with  pip install 'ai-assessor[sign]'\n")


def test_key_file_is_private_and_encrypted_with_aes_256(key: KeyFiles) -> None:
    assert key.p12.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in key.p12.parent.iterdir()) == ["ca.crl", "ca.pem", "key.p12"]
    content = key.p12.read_bytes()
    assert bytes.fromhex("060960864801650304012a") in content  # OID 2.16.840.1.101.3.4.1.42, aes256-CBC
    assert b"PRIVATE KEY" not in key.ca.read_bytes()


def test_certificate_may_sign_documents_and_nothing_else(key: KeyFiles) -> None:
    _, certificate, others = pkcs12.load_key_and_certificates(key.p12.read_bytes(), "pässword".encode())
    assert certificate is not None
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.content_commitment, usage.key_cert_sign) == (True, True, False)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ca = x509.load_pem_x509_certificate(key.ca.read_bytes())
    assert others == [ca]
    certificate.verify_directly_issued_by(ca)
    ca.verify_directly_issued_by(ca)
    assert certificate.public_key().key_size == ca.public_key().key_size == 3072  # type: ignore[union-attr]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=825)


def test_names_tell_the_reader_that_nobody_vouches_for_them(key: KeyFiles) -> None:
    _, certificate, others = pkcs12.load_key_and_certificates(key.p12.read_bytes(), "pässword".encode())
    assert certificate is not None
    name = x509.NameOID.COMMON_NAME
    assert certificate.subject.get_attributes_for_oid(name)[0].value == "Ada Tester (test only, not trusted)"
    issuer = str(others[0].subject.get_attributes_for_oid(name)[0].value)
    assert re.fullmatch(r"ai-assessor CA [0-9a-f]{8} \(test only, not trusted\)", issuer)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_reads_the_key(key: KeyFiles) -> None:
    command = ["openssl", "pkcs12", "-in", str(key.p12), "-info", "-noout", "-passin", "pass:pässword"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PBES2, PBKDF2, AES-256-CBC" in done.stderr
    assert "RC2" not in done.stderr


@pytest.mark.parametrize("left", ["key.p12", "ca.pem", "ca.crl"])
def test_a_key_is_never_overwritten(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_bytes(b"precious")
    with pytest.raises(UsageError, match=f"{left}: is there already and is not overwritten"):
        new_key(tmp_path, name="A", organisation="B", passphrase="p")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(left, b"precious")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "name of the signer: found 0 characters, wanted 1 to 39"),
        ({"name": "x" * 40}, "name of the signer: found 40 characters, wanted 1 to 39"),
        ({"organisation": "x" * 65}, "organisation: found 65 characters, wanted 1 to 64"),
        ({"passphrase": ""}, "passphrase: is empty"),
        ({"days": 0}, "days: found 0, wanted 1 to 36500"),
    ],
)
def test_unfit_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    arguments = {"name": "A", "organisation": "B", "passphrase": "p", **change}
    with pytest.raises(UsageError, match=words):
        new_key(tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file: cannot write the key"):
        new_key(tmp_path / "file", name="A", organisation="B", passphrase="p")


def test_developer_certifies_and_leaves_the_auditor_a_field(report: Path, certified: Path) -> None:
    signed = certified.read_bytes()
    assert signed.startswith(report.read_bytes())
    assert fields(signed) == {**WAITING, "DeveloperSignature": True}
    reader = PdfFileReader(io.BytesIO(signed))
    assert read_certification_data(reader).permission == MDPPerm.FILL_FORMS
    signature = reader.embedded_signatures[0]
    assert signature.sig_object["/SubFilter"] == "/ETSI.CAdES.detached"
    assert signature.sig_object["/Reason"] == "Read and agreed"
    assert signature.self_reported_timestamp == MOMENT
    assert list(signature.sig_field["/Rect"]) == [0, 0, 0, 0]
    assert len(signature.signed_data["certificates"]) == 2


def test_attributes_are_those_of_pades_b_b(certified: Path) -> None:
    info = PdfFileReader(io.BytesIO(certified.read_bytes())).embedded_signatures[0].signer_info
    kinds = {attribute["type"].dotted for attribute in info["signed_attrs"]}
    # content type, message digest, signing certificate v2; no signing time (EN 319 142-1, 6.3)
    assert kinds == {"1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.16.2.47"}
    assert info["unsigned_attrs"].native is None


def test_second_signature_appends_and_is_no_certification(certified: Path, key: KeyFiles, tmp_path: Path) -> None:
    second = sign(certified, key, tmp_path / "b.pdf", "auditor")
    assert second.startswith(certified.read_bytes())
    assert fields(second) == {**WAITING, "DeveloperSignature": True, "AuditorSignature": True}
    assert "/Reference" not in PdfFileReader(io.BytesIO(second)).embedded_signatures[1].sig_object


@pytest.mark.slow
def test_auditor_may_be_the_first(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    signed = sign(report, key, tmp_path / "a.pdf", "auditor")
    assert fields(signed) == {**WAITING, "AuditorSignature": True}
    assert read_certification_data(PdfFileReader(io.BytesIO(signed))).permission == MDPPerm.FILL_FORMS
    assert fields(sign(tmp_path / "a.pdf", key, tmp_path / "b.pdf"))["DeveloperSignature"]


def test_output_may_be_the_source_and_no_other_file_is_left(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(report.read_bytes())
    sign(path, key, path)
    assert [one.name for one in tmp_path.iterdir()] == ["report.pdf"]


def test_a_role_signs_once(certified: Path, key: KeyFiles, tmp_path: Path) -> None:
    signed = certified.read_bytes()
    (tmp_path / "a.pdf").write_bytes(signed)
    with pytest.raises(UsageError, match=r"a\.pdf: the developer has signed already"):
        sign(tmp_path / "a.pdf", key, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == signed
    assert [one.name for one in tmp_path.iterdir()] == ["a.pdf"]


@pytest.mark.slow
def test_a_file_signed_elsewhere_without_a_field_is_refused(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    from pyhanko.sign.signers import PdfSignatureMetadata, SimpleSigner
    from pyhanko.sign.signers import sign_pdf as sign_elsewhere

    signer = SimpleSigner.load_pkcs12(key.p12, passphrase="pässword".encode())
    writer = IncrementalPdfFileWriter(io.BytesIO(report.read_bytes()))
    other = sign_elsewhere(writer, PdfSignatureMetadata(field_name="Other"), signer).getvalue()
    (tmp_path / "other.pdf").write_bytes(other)
    with pytest.raises(UsageError, match="is signed and has no empty field AuditorSignature"):
        sign(tmp_path / "other.pdf", key, tmp_path / "out.pdf", "auditor")
    assert not (tmp_path / "out.pdf").exists()


def test_fields_that_wait_already_are_used(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    writer = IncrementalPdfFileWriter(io.BytesIO(report.read_bytes()))
    append_signature_field(writer, SigFieldSpec("AuditorSignature"))
    with (tmp_path / "prepared.pdf").open("wb") as stream:
        writer.write(stream)
    signed = sign(tmp_path / "prepared.pdf", key, tmp_path / "out.pdf", "auditor")
    assert fields(signed) == {**WAITING, "AuditorSignature": True}


def test_wrong_passphrase_missing_key_and_no_key_are_told(
    report: Path, key: KeyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out.pdf"
    with pytest.raises(UsageError, match=r"key\.p12: wrong passphrase, or no PKCS#12 file"):
        sign(report, key, output, passphrase="wrong")
    with pytest.raises(UsageError, match=r"absent\.p12: cannot read the signing key: No such file"):
        sign(report, KeyFiles(tmp_path / "absent.p12", key.ca, key.crl), output)
    with pytest.raises(UsageError, match=r"ca\.pem: wrong passphrase, or no PKCS#12 file"):
        sign(report, KeyFiles(key.ca, key.ca, key.crl), output)
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []


def test_an_expired_certificate_does_not_sign(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the certificate expired on 20"):
        sign(report, key, tmp_path / "out.pdf", now=datetime.now(UTC) + timedelta(days=826))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the PDF: No such file"),
        (b"", "is no PDF"),
        (b"GIF89a", "is no PDF"),
        (b"%PDF-1.7\nnothing else\n%%EOF\n", "cannot be signed, damaged or restricted PDF"),
    ],
)
def test_a_source_that_is_no_pdf_is_told(key: KeyFiles, tmp_path: Path, content: bytes | None, words: str) -> None:
    source = tmp_path / "source.pdf"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(UsageError, match=rf"source\.pdf: {words}"):
        sign(source, key, tmp_path / "out.pdf")
    assert not (tmp_path / "out.pdf").exists()


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_told(report: Path, key: KeyFiles, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.pdf: cannot be written: No such file"):
        sign(report, key, tmp_path / "absent" / "out.pdf")
    (tmp_path / "folder.pdf").mkdir()
    with pytest.raises(UsageError, match=r"folder\.pdf: cannot be written: Is a directory"):
        sign(report, key, tmp_path / "folder.pdf")
    assert [one.name for one in tmp_path.iterdir()] == ["folder.pdf"]


@pytest.mark.skipif(shutil.which("pdfsig") is None, reason="needs pdfsig of poppler-utils")
def test_pdfsig_finds_both_signatures_valid(certified: Path, key: KeyFiles, tmp_path: Path) -> None:
    sign(certified, key, tmp_path / "b.pdf", "auditor")
    said = pdfsig(tmp_path / "b.pdf")
    assert said.count("Signature is Valid.") == 2
    assert said.count("Signature Type: ETSI.CAdES.detached") == 2
    assert said.count("Total document signed") == 1
    assert "isn't Trusted" in said


@pytest.mark.skipif(not (shutil.which("pdfsig") and shutil.which("certutil")), reason="needs pdfsig and certutil")
def test_pdfsig_trusts_the_key_once_its_ca_is_trusted(certified: Path, key: KeyFiles, tmp_path: Path) -> None:
    database = f"sql:{tmp_path}"
    subprocess.run(["certutil", "-N", "-d", database, "--empty-password"], check=True)
    subprocess.run(["certutil", "-A", "-d", database, "-n", "ca", "-t", "CT,C,C", "-a", "-i", str(key.ca)], check=True)
    said = pdfsig("-nssdir", database, certified)
    assert "Signature is Valid." in said
    assert "Certificate is Trusted." in said


def pdfsig(*arguments: object) -> str:
    """What pdfsig prints; it ends with 0 whatever it finds."""
    return subprocess.run(["pdfsig", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_the_report_names_every_field_and_claims_no_signature() -> None:
    template = (Path(__file__).parents[1] / "templates" / "report" / "report.html.j2").read_text("utf-8")
    panel = template[template.index('id="signatures"') :]
    assert re.findall(r'class="mono">(\w+Signature)<', panel) == list(FIELDS.values())
    assert "cannot say who has signed" in panel

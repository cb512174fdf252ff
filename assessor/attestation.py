"""Attestations: a signed statement that names report, results, evidence, profile, catalog and ledger by digest.

The statement is in-toto's (https://in-toto.io/Statement/v1), the envelope DSSE
(https://github.com/secure-systems-lab/dsse, version 1.0.2). Each signature carries its
certificates, and a timestamp if one was asked for, so that a stranger verifies it offline;
`docs/signing.md` shows how to do it by hand. All is canonical JSON: no byte has a choice.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.canonical import canonical_json, sha256_hex
from assessor.certificates import LIBRARIES, is_chain, name_of, plain
from assessor.errors import IntegrityError, UsageError
from assessor.findings import Finding
from assessor.pdf_container import embedded, loaded, rebuilt, tidied
from assessor.pdf_content import attachments
from assessor.pdf_signatures import Reader, reader_of, revisions, stamped, trusted
from assessor.report_content import ATTACHMENT
from assessor.signers import Key, certificates, opened, quiet, read, require_libraries
from assessor.signing import Level, Proof, replace_file, stamper
from assessor.timestamps import digest_of

if TYPE_CHECKING:
    from asn1crypto.x509 import Certificate
    from pyhanko.sign.signers import Signer

SUFFIX = ".intoto.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://ai-assessor.example/attestation/v1"  # a reserved domain (RFC 2606): nobody else can own it
_MOST_BYTES = 64_000_000


class _Broken(Exception):  # noqa: N818 - a finding, not an error
    """An envelope that does not hold; the message says why."""


class Subject(NamedTuple):
    """What a statement is about."""

    name: str
    content: bytes
    results: bytes
    """The results in it, canonical JSON."""


def is_envelope(path: Path) -> bool:
    """Whether a file is an envelope, by its name."""
    return path.name.endswith(SUFFIX)


def envelope_of(path: Path) -> Path:
    """Where the envelope of a report or of results lies: beside it."""
    return path.with_name(f"{path.stem}{SUFFIX}")


def evidence_in(record: Any) -> dict[str, str]:
    """Names of the pieces of evidence that results rest on, by digest."""
    found = {piece["sha256"]: piece["name"] for answer in record["answers"].values() for piece in answer["evidence"]}
    found |= {digest: piece["name"] for digest, piece in record.get("evidence", {}).items()}
    return dict(sorted(found.items()))


def statement(subject: Subject) -> bytes:
    """What is signed, canonical JSON; all of it follows from the subject, so that a verifier makes it again.

    Args:
        subject: Report, or results.

    Returns:
        An in-toto statement with our predicate.
    """
    record = json.loads(subject.results)
    named = {subject.name: subject.content, ATTACHMENT: subject.results}
    subjects = [{"name": name, "digest": {"sha256": sha256_hex(content)}} for name, content in named.items()]
    if subject.content == subject.results:
        del subjects[1:]
    predicate = {
        "tool": record["tool"],
        "created": record["created"],
        "system": {name: record["configuration"]["system"].get(name) for name in ("name", "version")},
        "profile": {"sha256": sha256_hex(canonical_json(record["configuration"]))},
        "catalog": record["catalog"],
        "results": {name: item["sha256"] for name, item in record["results"].items()},
        "evidence": [{"sha256": digest, "name": name} for digest, name in evidence_in(record).items()],
        "ledger": record["ledger"],
    }
    told = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PREDICATE_TYPE, "predicate": predicate}
    return canonical_json(told)


def read_subject(path: Path) -> Subject:
    """A report or its results.

    Args:
        path: PDF or JSON.

    Returns:
        What a statement can be made about.

    Raises:
        UsageError: It cannot be read or is neither.
    """
    return _subject(path.name, read(path, "report or results"), str(path))


def _subject(name: str, content: bytes, where: str) -> Subject:
    results: bytes | None = content
    if content.startswith(b"%PDF-"):
        try:
            results = attachments(content).get(ATTACHMENT)
        except IntegrityError as error:
            raise UsageError(f"{where}: {error}") from error
    subject = Subject(name, content, results or b"")
    try:
        if canonical_json(json.loads(subject.results)) != results:
            raise ValueError("not in canonical form")
        statement(subject)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: holds no results of ai-assessor ({plain(error)})") from error
    return subject


def attest(
    path: Path, key: Key, envelope: Path, *, passphrase: str, proof: Proof | None = None, now: datetime | None = None
) -> None:
    """Writes the envelope of a report or of results, with a first signature.

    Args:
        path: PDF or JSON.
        key: Key and certificates.
        envelope: Where the envelope goes; must not be there.
        passphrase: Of `key`.
        proof: Timestamp of the signature; default none.
        now: Default the clock's.

    Raises:
        UsageError: `path` cannot be attested, the envelope is there, or the key does not sign.
    """
    require_libraries()
    refuse_overwriting(envelope)
    _write_signed(envelope, statement(read_subject(path)), [], key, passphrase, proof, now)


def refuse_overwriting(envelope: Path) -> None:
    """Stops if there is an envelope already.

    Raises:
        UsageError: There is.
    """
    if envelope.exists():
        raise UsageError(f"{envelope}: is there already; add a signature with  assessor sign {envelope}")


def countersign(
    path: Path, key: Key, output: Path, *, passphrase: str, proof: Proof | None = None, now: datetime | None = None
) -> None:
    """Adds a signature to an envelope.

    Args:
        path: The envelope.
        key: Key and certificates.
        output: Where it goes then; may be `path`.
        passphrase: Of `key`.
        proof: Timestamp of the signature; default none.
        now: Default the clock's.

    Raises:
        UsageError: It is no envelope that holds, or the key does not sign.
    """
    require_libraries()
    try:
        payload, signatures = _opened(read(path, "envelope"))
        for one in signatures:
            _check_signature(payload, one)
    except _Broken as fault:
        raise UsageError(f"{path}: is not signed, for it does not hold: {fault}") from fault
    _write_signed(output, payload, [one.written for one in signatures], key, passphrase, proof, now)


def _write_signed(
    output: Path,
    payload: bytes,
    before: list[dict[str, Any]],
    key: Key,
    passphrase: str,
    proof: Proof | None,
    now: datetime | None,
) -> None:
    moment = (now or datetime.now(UTC)).astimezone()
    if proof and proof.level is not Level.T:
        proof = proof._replace(level=Level.T)
    with quiet(*LIBRARIES), opened(key, passphrase, moment) as signer:
        made = asyncio.run(_made(signer, payload, proof))
    if any(one["keyid"] == made["keyid"] for one in before):
        raise UsageError(f"{output}: this key has signed already")
    content = {"payloadType": PAYLOAD_TYPE, "payload": _text(payload), "signatures": [*before, made]}
    replace_file(output, canonical_json(content))


async def _made(signer: Signer, payload: bytes, proof: Proof | None) -> dict[str, Any]:
    own, *others = certificates(signer)
    # a root is worth nothing but to who has it already
    chain = [own.dump(), *(one.dump() for one in others if one.subject != one.issuer)]
    value = await signer.async_sign_raw(pre_authentication(payload), "sha256")
    made = {"keyid": sha256_hex(chain[0]), "sig": _text(value), "certificates": [_text(one) for one in chain]}
    if proof:
        token: Any = await stamper(proof).async_timestamp(hashlib.sha256(value).digest(), "sha256")
        made["timestamp"] = _text(token.dump())
    return made


def pre_authentication(payload: bytes) -> bytes:
    """The bytes that are signed: type and payload with their lengths (DSSE, protocol.md).

    >>> pre_authentication(b"{}")
    b'DSSEv1 28 application/vnd.in-toto+json 2 {}'
    """
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _content(text: Any, what: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise _Broken(f"{what} is no base64") from error
    if _text(content) != text:
        raise _Broken(f"{what} is not written the way it is")
    return content


class _Signature(NamedTuple):
    written: dict[str, Any]
    value: bytes
    chain: list[bytes]
    timestamp: bytes | None

    @property
    def certificate(self) -> Certificate:
        from asn1crypto.x509 import Certificate

        found: Certificate = Certificate.load(self.chain[0], strict=True)
        return found


def _opened(content: bytes) -> tuple[bytes, list[_Signature]]:
    """Payload and signatures of an envelope that is written the only way it can be."""
    if len(content) > _MOST_BYTES:
        raise _Broken(f"it has more than {_MOST_BYTES} bytes")
    try:
        envelope = json.loads(content)
        canonical = canonical_json(envelope) == content
    except (ValueError, RecursionError) as error:
        raise _Broken("it is no JSON") from error
    if not canonical or not isinstance(envelope, dict):
        raise _Broken("it is not in canonical form")
    if set(envelope) != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
        raise _Broken(f"it is no envelope of type {PAYLOAD_TYPE}")
    written = envelope["signatures"]
    if not isinstance(written, list) or not written:
        raise _Broken("it carries no signature")
    return _content(envelope["payload"], "the payload"), [_signature(one) for one in written]


def _signature(written: Any) -> _Signature:
    if not isinstance(written, dict) or set(written) - {"timestamp"} != {"keyid", "sig", "certificates"}:
        raise _Broken("a signature has other parts than keyid, sig, certificates and timestamp")
    if not isinstance(written["certificates"], list) or not written["certificates"]:
        raise _Broken("a signature has no certificate")
    chain = [_content(one, "a certificate") for one in written["certificates"]]
    if sha256_hex(chain[0]) != written["keyid"]:
        raise _Broken("a certificate is not the one that the signature names")
    timestamp = _content(written["timestamp"], "a timestamp") if "timestamp" in written else None
    return _Signature(written, _content(written["sig"], "a signature"), chain, timestamp)


def _check_signature(payload: bytes, signature: _Signature) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    signed = pre_authentication(payload)
    try:
        key = x509.load_der_x509_certificate(signature.chain[0]).public_key()
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.value, signed, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature.value, signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise _Broken("the key is neither RSA nor ECDSA")
    except (InvalidSignature, ValueError, TypeError) as error:
        raise _Broken("the signature was not made of this statement with the key of its certificate") from error


def verify_envelope(
    path: Path,
    file: Path | None = None,
    *,
    trust: Sequence[Path] = (),
    stamp_trust: Sequence[Path] = (),
    now: datetime | None = None,
) -> list[Finding]:
    """Verifies an envelope, and the file it speaks of.

    Args:
        path: The envelope.
        file: Report or results; default the file beside it that the statement names.
        trust: PEM files of authorities whose signatures count.
        stamp_trust: PEM files of authorities whose timestamps count; default those of `trust`.
        now: Moment at which certificates have to be valid where no timestamp holds; default the clock's.

    Returns:
        Findings.

    Raises:
        UsageError: A file cannot be read.
    """
    require_libraries()
    roots = [[read(one, "certificate") for one in files] for files in (trust, stamp_trust)]
    reader = reader_of(roots[0], roots[1], now)
    with quiet(*LIBRARIES):
        try:
            payload, signatures = _opened(read(path, "envelope"))
            subjects, told = _said(payload)
        except _Broken as fault:
            return [Finding("envelope", "failed", f"The envelope does not hold: {fault}.")]
        sentence = f"A statement on {told}, with {len(signatures)} signature(s)."
        findings = [Finding("envelope", "ok", sentence)]
        for number, signature in enumerate(signatures, 1):
            findings += _examined(f"signature {number}", payload, signature, reader)
    return [*findings, *_of_file(path, file, payload, subjects)]


def _said(payload: bytes) -> tuple[dict[str, str], str]:
    """Digests by name, and what the statement is on, in words."""
    try:
        said = json.loads(payload)
        subjects = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
        system, ledger, kinds = (
            said["predicate"]["system"],
            said["predicate"]["ledger"],
            (said["_type"], said["predicateType"]),
        )
        told = f"{plain(system['name'])}: {', '.join(map(plain, subjects))}, a ledger of {plain(ledger['size'])} lines"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Broken("it holds no statement") from error
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE) or not subjects:
        raise _Broken("it holds a statement of another kind")
    return subjects, told


def _examined(name: str, payload: bytes, signature: _Signature, reader: Reader) -> Iterator[Finding]:
    from asn1crypto.x509 import Certificate

    try:
        _check_signature(payload, signature)
        own, others = signature.certificate, [Certificate.load(one, strict=True) for one in signature.chain[1:]]
        who = name_of(own)
    except (_Broken, ValueError, TypeError) as fault:
        yield Finding(f"{name} integrity", "failed", f"The signature does not hold: {plain(fault)}.")
        return
    yield Finding(f"{name} integrity", "ok", "The statement is the one that was signed (sha256).")
    chain = is_chain(signature.chain[0], signature.chain[1:], reader.roots) if others else True
    if chain is False or (chain is None and reader.roots):
        yield Finding(f"{name} certificates", "failed", "A certificate was changed or does not belong to the signer's.")
    elif chain is None:
        sentence = "The certificates above the signer's cannot be checked without the one that issued the last."
        yield Finding(f"{name} certificates", "unknown", sentence)
    yield Finding(f"{name} signer", "ok", f"Signed in the name of {who}.")
    moment = reader.now
    if signature.timestamp is None:
        yield Finding(f"{name} time", "unknown", "When it was signed is not known: there is no timestamp.")
    else:
        finding, when = _time(signature, signature.timestamp, reader)
        moment = when or moment
        yield Finding(f"{name} time", finding.status, finding.sentence)
    yield Finding(f"{name} trust", *trusted(own, others, reader, moment))


def _time(signature: _Signature, timestamp: bytes, reader: Reader) -> tuple[Finding, datetime | None]:
    try:
        token = loaded(timestamp)
        same = rebuilt(token) == timestamp == tidied(token).dump()
    except Exception as error:  # noqa: BLE001 - asn1crypto lets TypeError, KeyError and more through
        return Finding("", "failed", f"The timestamp cannot be read: {plain(error)}."), None
    if not same:
        return Finding("", "failed", "The timestamp was changed in a part that nothing covers."), None
    if reader.says_who_stamps and len(embedded(token)) > 1 and not _is_stamp_chain(token, reader):
        return Finding("", "failed", "A certificate in the timestamp was changed."), None
    found = stamped(token, digest_of(signature.value), reader)
    return Finding("", *found.finding), found.moment


def _is_stamp_chain(token: Any, reader: Reader) -> bool:
    own, *others = embedded(token)
    return bool(is_chain(own, others, reader.stamp_roots))


def _of_file(path: Path, file: Path | None, payload: bytes, subjects: dict[str, str]) -> Iterator[Finding]:
    """Whether the file is the one the statement speaks of, and everything in the statement follows from it."""
    name, digest = next(iter(subjects.items()))
    where = file or path.with_name(Path(name).name)
    if file is None and not where.is_file():
        yield Finding("file", "unknown", f"{plain(name)} is not beside the envelope; name it with --file.")
        return
    content = read(where, "report or results")
    if sha256_hex(content) == digest:
        yield Finding("file", "ok", f"{plain(where.name)} is the file that the statement names, by its digest.")
    else:
        ends = [end for end in revisions(content) if sha256_hex(content[:end]) == digest]
        if not ends:
            yield Finding("file", "failed", f"{plain(where.name)} is not the file that the statement names.")
            return
        sentence = f"{plain(where.name)} is the file that the statement names, signed once more since then."
        yield Finding("file", "ok", sentence)
        content = content[: ends[0]]
    try:
        follows = statement(_subject(name, content, str(where))) == payload
    except UsageError as fault:
        yield Finding("statement", "failed", f"The statement does not follow from the file: {plain(fault)}.")
        return
    if follows:
        yield Finding("statement", "ok", "Profile, catalog, results, evidence and ledger are those of the file.")
    else:
        yield Finding("statement", "failed", "The statement says other digests than the file.")

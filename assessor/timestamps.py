"""Timestamps (RFC 3161): asked of an authority over HTTP, examined without it.

A timestamp is a statement that an authority signed: these bytes existed at that moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.certificates import DIGESTS, NO_REVOCATION, STAMPING, Revocation, Trust, name_of, plain, trust
from assessor.errors import UsageError

if TYPE_CHECKING:
    from asn1crypto.cms import ContentInfo
    from asn1crypto.x509 import Certificate
    from pyhanko.sign.timestamps import TimeStamper

SECONDS = 20.0
"""For how long an authority is waited for."""
_MOST_BYTES = 1_000_000  # of an answer; a timestamp with its certificates has 3 to 10 kB
_KIND = "application/timestamp-reply"


class Timestamp(NamedTuple):
    """What a timestamp says, and whether it may be believed."""

    moment: datetime
    authority: str
    """Who says it, by its certificate."""
    trust: Trust


def digest_of(content: bytes) -> Callable[[str], bytes]:
    """The digest of some bytes by any hash function that is good enough."""

    def digest(name: str) -> bytes:
        if name not in DIGESTS:
            raise ValueError(f"it rests on {plain(name)}, which can be forged")
        return hashlib.new(name, content).digest()

    return digest


def examined(
    token: ContentInfo,
    digest: Callable[[str], bytes],
    roots: Sequence[Certificate],
    moment: datetime,
    revocation: Revocation = NO_REVOCATION,
) -> Timestamp:
    """What a timestamp says of some bytes, from it alone.

    Args:
        token: The timestamp.
        digest: Of the bytes, by the name of a hash function.
        roots: Trusted certificates; empty if the authority's is not to be followed.
        moment: When the authority's certificate has to be valid: now, or when a later timestamp was made.
        revocation: What is known of certificates taken back.

    Returns:
        When and who, once it is certain that this authority's key signed this of these bytes.

    Raises:
        ValueError: It does not hold; the message says why.
    """
    from pyhanko.sign.validation.generic_cms import extract_certs_for_validation, validate_sig_integrity

    data: Any = token["content"]
    said: Any = data["encap_content_info"]["content"].parsed
    found = extract_certs_for_validation(data)
    own: Any = found.signer_cert
    (info,) = data["signer_infos"]
    imprint = said["message_imprint"]
    if digest(imprint["hash_algorithm"]["algorithm"].native) != imprint["hashed_message"].native:
        raise ValueError("it was made for other bytes")
    name = info["digest_algorithm"]["algorithm"].native
    content = bytes(data["encap_content_info"]["content"])
    if not all(validate_sig_integrity(info, own, "tst_info", digest_of(content)(name))):
        raise ValueError("it was changed, or not made with the key of the certificate in it")
    stamped: datetime = said["gen_time"].native
    if own.extended_key_usage_value is None or own.extended_key_usage_value.native != ["time_stamping"]:
        raise ValueError(f"the certificate of {name_of(own)} is not one for timestamps")
    if stamped > own.not_valid_after:
        raise ValueError(f"the certificate of {name_of(own)} expired on {own.not_valid_after:%Y-%m-%d}, before it")
    if stamped < own.not_valid_before:
        raise ValueError(f"the certificate of {name_of(own)} holds only from {own.not_valid_before:%Y-%m-%d}, after it")
    if not roots:
        return Timestamp(stamped, name_of(own), Trust(None))
    led = trust(own, found.other_certs, roots, moment, purpose=STAMPING, revocation=revocation)
    return Timestamp(stamped, name_of(own), led)


def authority(url: str, roots: Sequence[Certificate], tidied: Callable[[ContentInfo], ContentInfo]) -> TimeStamper:
    """Who asks the authority at `url`; what does not hold to the last byte is refused.

    Args:
        url: Where it answers, http or https.
        roots: Trusted certificates; empty if the authority's is not to be followed.
        tidied: A timestamp without what is not needed to verify it.

    Returns:
        Its `async_timestamp` raises UsageError where no good timestamp came.

    Raises:
        UsageError: `url` is no address.
    """
    from pyhanko.sign.timestamps import TimeStamper

    if not url.lower().startswith(("http://", "https://")):
        raise UsageError(f"{url}: no address of a timestamp authority; wanted http://... or https://...")

    class Authority(TimeStamper):
        async def async_timestamp(self, message_digest: bytes, md_algorithm: str) -> ContentInfo:
            nonce, request = self.request_cms(message_digest, md_algorithm)  # type: ignore[no-untyped-call]
            content = await asyncio.to_thread(_asked, url, request.dump(), SECONDS)
            digests = {md_algorithm: message_digest}
            return await asyncio.to_thread(_accepted, url, content, nonce, digests, roots, tidied)

    return Authority()  # type: ignore[no-untyped-call]


def _asked(url: str, request: bytes, seconds: float) -> bytes:
    headers = {"Content-Type": "application/timestamp-query", "Accept": _KIND}
    wanted = urllib.request.Request(url, request, headers)  # noqa: S310 - http or https, see `authority`
    end, content = time.monotonic() + seconds, b""
    try:
        with urllib.request.urlopen(wanted, timeout=seconds) as answer:  # noqa: S310 - as above
            kind = answer.headers.get_content_type()
            while chunk := answer.read1(65536):
                content += chunk
                if time.monotonic() > end:
                    raise TimeoutError
                if len(content) > _MOST_BYTES:
                    raise UsageError(f"{url}: answered with more than {_MOST_BYTES} bytes, this is no timestamp")
    except TimeoutError as error:
        raise UsageError(f"{url}: the timestamp authority did not answer within {seconds:g} seconds") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise UsageError(f"{url}: the timestamp authority did not answer within {seconds:g} seconds") from error
        raise UsageError(f"{url}: the timestamp authority cannot be asked: {plain(reason)}") from error
    if kind != _KIND:
        raise UsageError(f"{url}: answered with {plain(kind)}, wanted {_KIND}: this is no timestamp authority")
    return content


def _accepted(
    url: str,
    content: bytes,
    nonce: int | None,
    digests: dict[str, bytes],
    roots: Sequence[Certificate],
    tidied: Callable[[ContentInfo], ContentInfo],
) -> ContentInfo:
    try:
        token = _granted(content, nonce)
        tidy = tidied(token)
        stamp = examined(tidy, lambda name: digests.get(name, b""), roots, datetime.now(UTC))
    except UsageError:
        raise
    except Exception as error:  # any kind: asn1crypto lets TypeError, KeyError and more through on a broken answer
        raise UsageError(f"{url}: no timestamp that holds: {plain(error)}") from error
    if roots and stamp.trust.root is None:
        raise UsageError(f"{url}: the certificate of {stamp.authority} {stamp.trust.fault}; see --tsa-trust")
    return tidy


def _granted(content: bytes, nonce: int | None) -> ContentInfo:
    from asn1crypto.cms import ContentInfo
    from asn1crypto.core import Sequence as Asn1Sequence
    from asn1crypto.tsp import PKIStatusInfo

    class Response(Asn1Sequence):  # type: ignore[misc]  # a refusal has no timestamp, which asn1crypto's own does not allow for
        _fields = [("status", PKIStatusInfo), ("token", ContentInfo, {"optional": True})]  # noqa: RUF012

    response: Any = Response.load(content, strict=True)
    status = response["status"]
    if status["status"].native not in {"granted", "granted_with_mods"}:
        words = [status["status"].native, *(status["status_string"].native or []), *(status["fail_info"].native or [])]
        raise ValueError(f"it was refused: {', '.join(words)}")
    token: Any = response["token"]
    if token["content"]["encap_content_info"]["content"].parsed["nonce"].native != nonce:
        raise ValueError("the answer belongs to another question (wrong nonce)")
    found: ContentInfo = token
    return found

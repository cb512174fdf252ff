"""Model cards in Markdown with front matter, as on Hugging Face; read by `prefill`."""

from __future__ import annotations

from assessor.evidence_formats.reading import Reading, stated
from assessor.model import EvidenceType
from assessor.prefill import CARD_NAMES
from assessor.prefill.markdown import sections
from assessor.prefill.model_card import found_in_model_card, has_front_matter


def recognises(content: bytes, name: str) -> bool:
    """Whether a Markdown file has the front matter of a model card, or its name."""
    return name.lower() in CARD_NAMES or has_front_matter(content)


def read(content: bytes, name: str) -> Reading:
    """What a model card says.

    Args:
        content: The file.
        name: How messages call it.

    Returns:
        Its title and statements.

    Raises:
        UsageError: Its front matter is not readable, or it is no model card.
    """
    facts = found_in_model_card(content, name)
    titles = (part.title for part in sections(content.decode("utf-8-sig")) if part.level == 1)
    return Reading(format="model card", type=EvidenceType.DOCUMENT, subject=next(titles, ""), findings=stated(facts))

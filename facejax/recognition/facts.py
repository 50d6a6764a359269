"""What a gallery says of itself: whose embeddings it holds, how, and which similarity is enough."""

import dataclasses
import json
from typing import Any

from facejax.errors import UserError

# `dtype` float32 or int8, `recognizer` its name and sha256, `card` all of its card,
# `embedding_size`, and `thresholds`, a list; those that nobody has said yet are not there.
Facts = dict[str, Any]


def of_recognizer(recognizer: Any) -> Facts:
    """What a gallery keeps of a recognizer.

    Args:
      recognizer: with a `card`, and perhaps `thresholds`.
    """
    card = recognizer.card
    fields = card.to_json()
    facts: Facts = {
        "recognizer": {"name": card.name, "sha256": card.sha256},
        "card": json.loads(fields) if isinstance(fields, str) else fields,
        "embedding_size": card.embedding_size,
    }
    if given := getattr(recognizer, "thresholds", None):
        facts["thresholds"] = [dataclasses.asdict(one) for one in given]
    return facts


def joined(mine: Facts, theirs: Facts, *, gallery: str, what: str) -> Facts:
    """A gallery's facts with those that it lacks from what is to come into it.

    Args:
      mine: the gallery's.
      theirs: of a recognizer, of embeddings or of an export.
      gallery: its place, for the sentences.
      what: whose facts `theirs` are, for the sentences.

    Raises:
      UserError: they are another recognizer's.
    """
    one, other = mine.get("recognizer"), theirs.get("recognizer")
    if one and other and one["sha256"] != other["sha256"]:
        names = [f"{each['name']} ({each['sha256'][:12]})" for each in (one, other)]
        raise UserError(
            f"the gallery {gallery} was written by the recognizer {names[0]}, and {what} is of "
            f"{names[1]}: their embeddings can't be compared, so take that one or enroll anew"
        )
    size, length = mine.get("embedding_size"), theirs.get("embedding_size")
    if size and length and size != length:
        raise UserError(
            f"the gallery {gallery} holds embeddings of length {size}, and {what} has {length}: "
            "they are another recognizer's, so enroll anew in another gallery"
        )
    return {
        **mine,
        **{name: value for name, value in theirs.items() if value and not mine.get(name)},
    }

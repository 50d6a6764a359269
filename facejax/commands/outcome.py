"""What a command gives: what is said on stdout, and the exit status."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
      said: for stdout; nothing is printed where it is empty.
      status: 0 is done, and 2 a user's mistake; a comparison has 1 for different.
      complaint: a sentence for stderr.
    """

    said: str
    status: int = 0
    complaint: str = ""


class Skipped(NamedTuple):
    """What was left out, and the sentence that says why."""

    source: str
    reason: str

    def __str__(self) -> str:
        reason = printable(self.reason)
        source = printable(self.source)
        return reason if self.source in self.reason else f"{source}: {reason}"


def of_batch(
    records: Mapping[str, Any],
    table: str,
    counts: Mapping[str, int],
    skipped: Sequence[Skipped],
    *,
    done: bool,
    as_json: bool,
) -> Outcome:
    """The outcome of work on many files, some of which may have been left out.

    Args:
      records: the results, for machines.
      table: the same for people; it may be empty.
      counts: of what was worked on, by its plural.
      skipped: what was left out.
      done: whether anything was done; if nothing was, the status is 2.
      as_json: whether machines are to read it.
    """
    complaint = ""
    if not done:
        first = str(skipped[0]) if skipped else "there is nothing to do: give a photograph"
        more = f" (and {len(skipped) - 1} more were skipped)" if len(skipped) > 1 else ""
        complaint = first + more
    status = 0 if done else 2
    if as_json:
        left_out = [skip._asdict() for skip in skipped]
        counted = {**counts, "skipped": len(skipped)}
        return Outcome(as_text({**records, "counts": counted, "skipped": left_out}), status)
    if not done and len(skipped) <= 1:
        return Outcome("", status, complaint)
    ending = ", ".join(f"{name}: {count}" for name, count in counts.items())
    lines = [table] if table else []
    lines.append(f"{ending}, skipped: {len(skipped)}")
    lines += [f"  {skip}" for skip in skipped]
    return Outcome("\n".join(lines), status, complaint)


def as_text(records: Any) -> str:
    """JSON; not-a-number and infinity, which it lacks, become null.

    Args:
      records: dicts, lists, texts and numbers.
    """
    return json.dumps(_finite(records), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value


def printable(text: str) -> str:
    """A text as it can be printed on one line: a file's name may hold a line break, or no letters.

    Args:
      text: of any kind.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)

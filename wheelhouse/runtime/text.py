"""Untrusted text in messages."""

_LONGEST_SHOWN = 120


def printable(text: str) -> str:
    """Return *text* with control characters escaped, safe to print on a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    )


def printable_lines(text: str) -> str:
    """Return *text* with each of its lines printable."""
    return "\n".join(map(printable, text.split("\n")))


def shown(text: str) -> str:
    """Return untrusted text quoted, escaped and cut, for messages."""
    return ascii(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!a}..."

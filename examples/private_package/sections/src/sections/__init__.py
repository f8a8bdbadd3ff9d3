"""Sections of beams: second moments of area in m⁴, from lengths in m."""


def rectangle(width: float, height: float) -> float:
    """A solid rectangle, bent over its height."""
    return width * height**3 / 12


def tube(outside: float, wall: float) -> float:
    """A square tube."""
    return (outside**4 - (outside - 2 * wall) ** 4) / 12

"""Characters for texts that Hypothesis makes up."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""Every one that UTF-8 can hold. Hypothesis's default is the same, found by trying to encode a million of them: that
takes ten seconds, and several times as long while coverage is measured, whenever a clone is fresh."""

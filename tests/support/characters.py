"""Characters for texts that Hypothesis makes up."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""Every character that UTF-8 can encode.

Hypothesis's default is the same, but it tries a million characters to find them: ten seconds in
each new clone, and several times as long while coverage is measured.
"""

"""A package that lies beside a script."""

ANSWER = 42

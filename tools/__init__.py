"""Scripts of the Makefile, of CI and of pre-commit."""

"""Run `offline-bundle`: `python -m offline_bundle`."""

from offline_bundle.cli import main

if __name__ == "__main__":
    main()

"""The commands `run`, `submit`, `jobs`, `probe`, `embedded-hps` and `demo`."""

"""The launcher: start a script in its environment, made once per node."""

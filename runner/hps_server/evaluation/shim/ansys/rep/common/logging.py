"""`log`, as execution scripts import it: lines on the task's console."""  # noqa: INP001 - `ansys` has other parts elsewhere

import logging
import sys

log = logging.getLogger("execution_script")
log.setLevel(logging.DEBUG)
log.propagate = False

_handler = logging.StreamHandler(sys.stdout)
_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
log.addHandler(_handler)

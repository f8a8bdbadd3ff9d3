"""File names, limits and patterns of the bundle format."""

FORMAT = 1
MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
CHECKSUMS = "SHA256SUMS"
SBOM = "sbom.cdx.json"
REPORT = "report.html"
WRITER = ".writer"
"""The folder inside a bundle that belongs to its one writer."""
PENDING = f"{WRITER}/pending.json"
INCOMING = f"{WRITER}/incoming"
"""Files on their way out of an archive: each is complete when its digest says so."""
DELTA = f"{WRITER}/delta.json"
"""The member that makes an archive a difference: which files it brings, and for which bundle."""
PART_INDEX = ".parts.sha256"
"""What follows an archive's name in that of the list of its parts, for `sha256sum -c`."""
MOST_ANCESTORS = 100
STAGING = f"{WRITER}/tmp"  # noqa: S108 -- inside the bundle, and nobody else's
LARGEST_HEADER_FILE = 64 * 1024 * 1024
LARGEST_SIZE = 2**63 - 1
COPY_AGAIN_HINT = "carry it over again; what is good already need not be"
ENVIRONMENT_MARK = "pyvenv.cfg"
"""The file that every environment of a bundle has at its top."""
POLICY_PATH = "/etc/offline-bundle/policy.json"
PYTHON_VARIABLES = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONEXECUTABLE",
    "__PYVENV_LAUNCHER__",
    "VIRTUAL_ENV",
)
"""Variables that would lead Python away from the environment that it is started in."""

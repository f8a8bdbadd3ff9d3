"""File names and limits of the bundle format."""

FORMAT = 1
MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
CHECKSUMS = "SHA256SUMS"
PROVENANCE = ".provenance"
"""Suffix of the provenance beside a wheel (PEP 740)."""
SETTINGS = "offline-bundle.toml"
"""Defaults of options: a file of the user, of a project, or in a bundle."""
DATA = "data"
"""The folder for data of scripts: models, browsers, corpora."""
SBOM = "sbom.cdx.json"
REPORT = "report.html"
WRITER = ".writer"
"""The folder in a bundle for its one writer."""
PENDING = f"{WRITER}/pending.json"
INCOMING = f"{WRITER}/incoming"
"""Files that are being unpacked; one is complete when its digest matches."""
DELTA = f"{WRITER}/delta.json"
"""The member that makes an archive a difference: its files, and the bundle that it is for."""
PART_INDEX = ".parts.sha256"
"""Suffix of the list of an archive's parts, for `sha256sum -c`."""
MOST_ANCESTORS = 100
DIGEST_LENGTH = 16
"""Hex digits of the content's sha256 in the path of a lock or a uv: its content never changes."""
STAGING = f"{WRITER}/tmp"  # noqa: S108 - inside the bundle
LARGEST_HEADER_FILE = 64 * 1024 * 1024
LARGEST_SIZE = 2**63 - 1
COPY_AGAIN_HINT = "copy it again; intact files are kept"
ENVIRONMENT_MARK = "pyvenv.cfg"
"""The file that makes a folder a virtual environment (PEP 405)."""
UV_SHIM = "envs/bin/uv"
"""The program that starts the launcher for `uv run`, in a bundle with ready environments."""
POLICY_PATH = "/etc/offline-bundle/policy.json"
PYTHON_VARIABLES = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONEXECUTABLE",
    "__PYVENV_LAUNCHER__",
    "VIRTUAL_ENV",
)
"""Variables that make Python use another environment."""

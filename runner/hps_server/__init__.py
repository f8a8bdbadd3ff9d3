"""An embedded HPS for demos and tests: the parts of Ansys HPC Platform Services that jobs need.

    with EmbeddedHps(data=folder, bundle=bundle) as hps:
        client = Client(hps.url, hps.username, hps.password)

It serves this machine only, and runs the jobs of its one user as that user.
"""

from offline_bundle.runner.hps_server.server import EmbeddedHps, registered_uv

__all__ = ["EmbeddedHps", "registered_uv"]

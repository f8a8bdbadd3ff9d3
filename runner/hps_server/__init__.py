"""An embedded HPS, for trying and testing: the parts of Ansys HPC Platform Services that jobs here need.

    with EmbeddedHps(data=folder, bundle=bundle) as hps:
        client = Client(hps.url, hps.username, hps.password)

It serves this machine only and runs what its one user submits as that user. It is not a product.
"""

from offline_bundle.runner.hps_server.server import EmbeddedHps, registered_uv

__all__ = ["EmbeddedHps", "registered_uv"]

"""Files that follow from the manifest: index pages, download lists, SBOM, report."""

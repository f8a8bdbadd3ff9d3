"""The software bill of materials of a bundle."""

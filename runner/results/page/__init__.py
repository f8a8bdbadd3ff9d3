"""The results page: one self-contained HTML file."""

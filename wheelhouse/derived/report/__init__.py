"""The report for reviewers: one self-contained HTML file."""

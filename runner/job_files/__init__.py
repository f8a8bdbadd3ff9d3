"""The files of jobs: inputs that they get, and outputs that are collected."""

"""Finishing a manifest: pages, needed_by and checksums follow from its tables."""

from __future__ import annotations

from dataclasses import replace

from offline_bundle.wheelhouse.derived.complete import complete, file_entry
from offline_bundle.wheelhouse.derived.requirement_graph import marker_environment
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledPython
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS
from tests.support.reviewed import LINUX, MAC, TARGETS, Shelf


def test_complete_adds_pages_needs_and_checksums() -> None:
    shelf = Shelf()
    numpy, unused = shelf.wheel("numpy"), shelf.wheel("unused")
    manifest, pages = complete(shelf.manifest({"eval": {LINUX: [numpy]}}))
    assert set(pages) == {
        f"simple/{name}index.{kind}"
        for name in ("", "numpy/", "unused/")
        for kind in ("html", "json")
    }
    assert all(manifest.files[path] == file_entry(page) for path, page in pages.items())
    assert manifest.files[numpy].needed_by == (f"eval/{LINUX}",)
    assert manifest.files[unused].needed_by == ()
    assert CHECKSUMS in manifest.files


def test_complete_replaces_earlier_pages_and_drops_unused_targets() -> None:
    shelf = Shelf()
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    python = BundledPython(version="3.13.1", implementation="cpython", path="python/1/cpython.tar")
    archive = file_entry(b"archive")
    stale = {"simple/gone/index.html": archive, "python-downloads.json": archive}
    first, _ = complete(manifest)
    second, _ = complete(
        replace(
            first,
            targets={**first.targets, MAC: TARGETS[MAC]},
            pythons={MAC: python},
            files={**first.files, **stale, python.path: archive},
        )
    )
    assert second == replace(first, files={**first.files, python.path: archive})


def test_complete_lists_interpreters_for_uv() -> None:
    shelf = Shelf()
    python = BundledPython(version="3.12.1", implementation="cpython", path="python/1/cpython.tar")
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    files = {**manifest.files, python.path: file_entry(b"archive")}
    _, pages = complete(replace(manifest, pythons={LINUX: python}, files=files))
    assert b'"cpython-3.12.1-linux-x86_64-gnu"' in pages["python-downloads.json"]


def test_marker_environment_knows_machine_and_system_names() -> None:
    names = {
        platform: tuple(
            marker_environment(platform, "3.12.4")[key]  # type: ignore[literal-required]
            for key in ("os_name", "sys_platform", "platform_system", "platform_machine")
        )
        for platform in (
            "aarch64-manylinux_2_28",
            "x86_64-unknown-linux-musl",
            "aarch64-apple-darwin",
            "x86_64-pc-windows-msvc",
        )
    }
    assert names == {
        "aarch64-manylinux_2_28": ("posix", "linux", "Linux", "aarch64"),
        "x86_64-unknown-linux-musl": ("posix", "linux", "Linux", "x86_64"),
        "aarch64-apple-darwin": ("posix", "darwin", "Darwin", "arm64"),
        "x86_64-pc-windows-msvc": ("nt", "win32", "Windows", "AMD64"),
    }
    assert marker_environment("x86_64-manylinux_2_28", "3.12.4")["python_version"] == "3.12"

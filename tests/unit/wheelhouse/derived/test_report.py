from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.derived.audit_result import Applied
from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.derived.inventories import add_inventories
from offline_bundle.wheelhouse.derived.report.report import render_report
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile
from offline_bundle.wheelhouse.runtime.sizes import format_size
from tests.support.reviewed import LINUX, MAC, Shelf

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.report_cases import HOSTILE, _Elements, attested, audit, everything, shelf

__all__ = ["shelf"]


def text_of(page: bytes) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page.decode().partition("</style>")[2]))


def test_report_has_the_facts_for_a_review(shelf: Shelf) -> None:
    manifest = everything(shelf)
    text = text_of(render_report(manifest, shelf.metadata))
    for shown in (
        "Offline bundle: eval, study",
        "https://index.example/simple",
        "local built",
        "git https://git.example/repo at c0ffeec0ffee",
        "BSD-3-Clause",
        "it eats your data",
        "x86_64-manylinux_2_28",
        "uv 0.9",
        "libc 2.17 or newer",
        manifest.files["wheels/numpy-2.0-py3-none-any.whl"].sha256 or "",
        manifest.files["scripts/eval.py"].sha256 or "",
        "sha256sum -c",
    ):
        assert shown in text
    look_at = text.partition("To look at")[2].partition("Sizes")[0]
    for badge, package in (
        ("built from source", "built 1.0"),
        ("built from source", "from-git 1.0"),
        ("yanked", "sorry 1.0"),
        ("several versions", "numpy 1.0, numpy 2.0"),
        ("no licence given", "unlicensed 1.0"),
        ("needed by nothing", "left 1.0"),
    ):
        assert re.search(rf"{badge} .*{package}", re.sub(r"\s+", " ", look_at.replace(" ,", ",")))


def test_report_without_findings_says_so(shelf: Shelf) -> None:
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy", "1.0", "License: MIT")]}})
    assert "No yanked version, nothing built from source" in text_of(
        render_report(manifest, shelf.metadata)
    )


def test_report_has_a_matrix_of_scripts_and_targets(shelf: Shelf) -> None:
    page = render_report(everything(shelf), shelf.metadata).decode()
    matrix = page.partition('<table class="matrix">')[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", matrix, re.DOTALL)[1:]
    cells = [
        [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td>(.*?)</td>", row)]
        for row in rows
    ]
    assert [[" ".join(cell[:2]) for cell in row] for row in cells] == [
        ["4 packages", "1 package", "\N{EN DASH}"],
        ["3 packages", "\N{EN DASH}", "1 package"],
    ]


def test_bars_are_drawn_to_scale(shelf: Shelf) -> None:
    page = render_report(everything(shelf), shelf.metadata).decode()
    packages = page.partition("<h2>Packages</h2>")[2].partition("<h2>")[0]
    numpy = [float(w) for w in re.findall(r"numpy.*?width:([\d.]+)%", packages, re.DOTALL)]
    assert sorted(numpy) == [50.0, 100.0]


def test_report_lists_changes_since_the_bundle_before(shelf: Shelf) -> None:
    before = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy", "1.0"), shelf.wheel("gone")]}})
    newer = Shelf()
    now = newer.manifest(
        {"eval": {LINUX: [newer.wheel("numpy", "2.0"), newer.wheel("fresh")]}, "more": {MAC: []}}
    )
    text = re.sub(r"\s+", " ", text_of(render_report(now, newer.metadata, before)))
    changes = text.partition("Changed since the bundle before")[2].partition("Sizes")[0]
    for shown in (
        "script added: more",
        f"target added: {MAC}",
        "fresh added 1.0",
        "gone removed 1.0",
        "numpy changed 1.0 2.0",
    ):
        assert shown in changes
    assert "There was no bundle before." in text_of(render_report(now, newer.metadata))
    assert "No script, target or package." in text_of(render_report(now, newer.metadata, now))


def test_changes_have_the_sizes_and_locks_of_diff(shelf: Shelf) -> None:
    """A build keeps the old wheel: it is neither a second version nor part of the change."""
    old_numpy = shelf.wheel("numpy", "1.0", size=5000)
    before = shelf.manifest({"eval": {LINUX: [old_numpy], MAC: [old_numpy]}})
    new_numpy = shelf.wheel("numpy", "2.0", size=7048)
    now = shelf.manifest({"eval": {LINUX: [new_numpy], MAC: [new_numpy]}})
    [change] = diff(before, now).grouped_packages
    assert (change.growth, change.locks) == (2048, (f"eval/{LINUX}", f"eval/{MAC}"))
    text = re.sub(r"\s+", " ", text_of(render_report(now, shelf.metadata, before)))
    changes = text.partition("Changed since the bundle before")[2].partition("Sizes")[0]
    assert f"numpy changed 1.0 2.0 +2 KiB eval/{LINUX}, eval/{MAC}" in changes
    assert "several versions" not in text
    assert "needed by nothing" in text


def test_report_counts_all_files_of_the_manifest(shelf: Shelf, tmp_path: Path) -> None:
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    written = shelf.write(tmp_path / "bundle", manifest)
    page = (tmp_path / "bundle" / "report.html").read_text(encoding="utf-8")
    assert f"<b>{len(written.files)}</b>files" in page
    others = sum(written.files[path].size or 0 for path in written.files.keys() - INVENTORIES)
    assert f"<b>{format_size(others)}</b>without this page and the SBOM" in page


def test_every_kind_of_file_has_its_own_size(shelf: Shelf) -> None:
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy", size=5000)]}})
    sizes = {"bytecode/cp312/a": 3072, "envs/a": 1024, "images/a": 1024, "data/model": 4096}
    files = {path: BundledFile(sha256="0" * 64, size=size) for path, size in sizes.items()}
    page = render_report(replace(manifest, files={**manifest.files, **files}), shelf.metadata)
    legend = page.decode().partition('<div class="legend">')[2].partition("</section>")[0]
    kinds = re.findall(r"</span> (.+?) (\d[\d.]* \w+)</span>", legend)
    assert [kind for kind in kinds if not kind[0].startswith(("wheels", "index"))] == [
        ("bytecode", "3 KiB"),
        ("cache, environments, images", "2 KiB"),
        ("data", "4 KiB"),
    ]


def test_the_same_input_gives_the_same_bytes(shelf: Shelf) -> None:
    manifest = everything(shelf)
    page = render_report(manifest, shelf.metadata)
    assert render_report(manifest, dict(reversed(shelf.metadata.items()))) == page


def test_package_metadata_never_becomes_markup(shelf: Shelf) -> None:
    page = render_report(everything(shelf), shelf.metadata).decode()
    parsed = _Elements(page)
    assert parsed.open == []
    kinds = {name for name, _ in parsed.elements}
    assert not kinds & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "form",
        "input",
        "svg",
        "base",
    }
    attributes = {key for _, found in parsed.elements for key in found}
    assert attributes <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "style",
        "scope",
        "id",
        "href",
        "aria-label",
        "data-title",
    }
    links = {found["href"] for _, found in parsed.elements if "href" in found}
    assert all((link or "").startswith("#") for link in links)
    assert {"#vulnerabilities", "#rules", "#provenance", "#changes"} <= links
    assert HOSTILE in text_of(page.encode())
    assert "\u202e" not in page


def test_report_is_kept_where_nothing_else_changes(shelf: Shelf, tmp_path: Path) -> None:
    """The report tells of the bundle before: without this, every build would make another one."""
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    first = shelf.write(tmp_path / "bundle", manifest)
    page = (tmp_path / "bundle" / "report.html").read_bytes()
    assert shelf.write(tmp_path / "bundle", manifest) == first
    assert (tmp_path / "bundle" / "report.html").read_bytes() == page
    assert add_inventories(first, lambda: pytest.fail("rendered again"), first) == (first, {})
    second = shelf.write(
        tmp_path / "bundle", shelf.manifest({"eval": {LINUX: [shelf.wheel("scipy")]}})
    )
    assert second.generation == 2
    assert b"Changed since" in (tmp_path / "bundle" / "report.html").read_bytes()


def test_without_an_audit_the_page_states_that_nothing_was_checked(shelf: Shelf) -> None:
    text = top_of(render_report(everything(shelf), shelf.metadata))
    assert "Vulnerabilities not checked" in text
    assert "Rules not checked" in text
    assert "0 of 8 wheels attested" in text
    assert "first bundle" in text
    assert "none known" not in text
    unanswered = replace(audit(), sources=(), advisories=None, findings=Applied())
    text = top_of(render_report(everything(shelf), shelf.metadata, None, unanswered))
    assert "Vulnerabilities not checked" in text
    assert "none known" not in text


def test_the_top_has_vulnerabilities_by_severity_rules_and_provenance(shelf: Shelf) -> None:
    manifest = attested(everything(shelf))
    text = top_of(render_report(manifest, shelf.metadata, manifest, audit()))
    for shown in (
        "1 critical 1 of unknown severity 1 accepted 1 not checked",
        "1 broken",
        "2 of 8 wheels attested",
        "0 packages changed",
        "critical 9.8 numpy 1.0 PYSEC-2026-1 CVE-2026-1 Reads too much 1.2, 2.1 eval (cp312)",
        "built 1.0 PYSEC-2026-9 low 2.1 2027-03-31 not reachable",
        "denied-packages evil 1.0 denied by evil",
        "numpy 2.0 verified GitHub numpy/numpy-release wheels.yml",
        "sorry 1.0 absent",
        "broken.json: not valid JSON",
    ):
        assert shown in text, shown


def test_a_clean_audit_is_told_as_such(shelf: Shelf) -> None:
    clean = replace(audit(), findings=Applied(), breaches=(), unchecked=())
    text = top_of(render_report(everything(shelf), shelf.metadata, None, clean))
    assert "Vulnerabilities none known Rules kept" in text
    assert (
        "Checked on 2026-11-28: 7 packages. Advisories read: 20,000, from advisories.zip." in text
    )


def test_text_of_advisories_never_becomes_markup(shelf: Shelf) -> None:
    finding = replace(audit().findings.open[0], summary=HOSTILE, id=HOSTILE)
    hostile = replace(
        audit(), sources=(HOSTILE,), findings=Applied((finding,)), unchecked=(HOSTILE,)
    )
    parsed = _Elements(render_report(everything(shelf), shelf.metadata, None, hostile).decode())
    assert not {name for name, _ in parsed.elements} & {"script", "img"}


def top_of(page: bytes) -> str:
    return re.sub(r"\s+", " ", text_of(page)).partition("To look at")[0]

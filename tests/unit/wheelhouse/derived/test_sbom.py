from __future__ import annotations

import json
from typing import Any

import pytest

from offline_bundle.wheelhouse.derived.requirement_graph import lock_graph
from offline_bundle.wheelhouse.derived.sbom.sbom import render_sbom
from offline_bundle.wheelhouse.derived.wheel_metadata import read_all_metadata, read_metadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import Source
from tests.support.reviewed import INDEX, LINUX, MAC, WINDOWS, Shelf


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def rendered(
    shelf: Shelf, scripts: dict[str, dict[str, list[str]]], asks: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    content = render_sbom(
        shelf.manifest(scripts, asks=asks, uv=["x86_64-manylinux_2_17"]), shelf.metadata
    )
    assert_valid(content)
    document: dict[str, Any] = json.loads(content)
    return document


def assert_valid(content: bytes) -> None:
    """Against the schema of CycloneDX 1.6, strictly."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode()) is None


def component(document: dict[str, Any], reference: str) -> dict[str, Any]:
    (found,) = [one for one in document["components"] if one["bom-ref"] == reference]
    return dict(found)


def needs(document: dict[str, Any], reference: str) -> list[str]:
    (found,) = [one for one in document["dependencies"] if one["ref"] == reference]
    return list(found.get("dependsOn", []))


def test_wheel_is_a_component(shelf: Shelf) -> None:
    path = shelf.wheel(
        "numpy",
        "2.0",
        "License-Expression: BSD-3-Clause AND MIT",
        "Author-email: Ada <ada@example.org>",
        "Summary: Arrays",
        "Project-URL: Homepage, https://numpy.example",
        upload_time="2026-01-01T00:00:00Z",
    )
    document = rendered(shelf, {"eval": {LINUX: [path]}})
    found = component(document, path)
    assert found["purl"] == "pkg:pypi/numpy@2.0?file_name=numpy-2.0-py3-none-any.whl"
    assert found["hashes"] == [{"alg": "SHA-256", "content": shelf.files[path].sha256}]
    assert found["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert found["supplier"] == {"name": "Ada"}
    assert found["authors"] == [{"name": "Ada", "email": "ada@example.org"}]
    urls = {reference["type"]: reference["url"] for reference in found["externalReferences"]}
    assert urls == {
        "distribution": "https://files.example/numpy-2.0-py3-none-any.whl",
        "website": "https://numpy.example",
    }
    properties = {item["name"]: item["value"] for item in found["properties"]}
    assert properties["offline-bundle:index"] == INDEX


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        (["License-Expression: MIT"], {"license": {"id": "MIT"}}),
        (["License-Expression: mit or apache-2.0"], {"expression": "mit or apache-2.0"}),
        (["License-Expression: No Such AND Thing"], {"license": {"name": "No Such AND Thing"}}),
        (["License: BSD-3-Clause"], {"license": {"id": "BSD-3-Clause"}}),
        (["License: My own"], {"license": {"name": "My own"}}),
        (
            ["License: UNKNOWN", "Classifier: License :: OSI Approved :: X License"],
            {"license": {"name": "X License"}},
        ),
        (
            ["License: First line", "        of a long text", "        of one"],
            {"license": {"name": "First line"}},
        ),
        (["License: UNKNOWN"], None),
        (["Classifier: License :: OSI Approved"], None),
        ([], None),
    ],
)  # fmt: skip
def test_licences(shelf: Shelf, headers: list[str], licence: dict[str, Any] | None) -> None:
    path = shelf.wheel("numpy", "1.0", *headers)
    found = component(rendered(shelf, {"eval": {LINUX: [path]}}), path)
    assert found.get("licenses") == ([licence] if licence else None)


def test_graph_starts_at_the_bundle(shelf: Shelf) -> None:
    matplotlib = shelf.wheel(
        "matplotlib", "1.0", "Requires-Dist: numpy>=1", 'Requires-Dist: nothing; extra == "test"'
    )
    numpy, left = shelf.wheel("numpy"), shelf.wheel("left")
    scripts = {"eval": {LINUX: [matplotlib, numpy]}}
    document = rendered(shelf, scripts, asks={"eval": ["matplotlib"]})
    assert needs(document, "bundle") == [f"eval/{LINUX}", "uv/x86_64-manylinux_2_17/uv"]
    assert needs(document, f"eval/{LINUX}") == [matplotlib]
    assert needs(document, matplotlib) == [numpy]
    assert needs(document, numpy) == needs(document, left) == []
    assert component(document, "uv/x86_64-manylinux_2_17/uv")["version"] == "0.9"


def test_graph_is_true_for_each_target(shelf: Shelf) -> None:
    """One wheel for all targets, whose markers ask for something else on each."""
    click = shelf.wheel(
        "click", "1.0", 'Requires-Dist: colorama; sys_platform == "win32"', "Requires-Dist: numpy"
    )
    tool = shelf.wheel("tool", "1.0", "Requires-Dist: click")
    colorama = shelf.wheel("colorama")
    wheels = {
        target: shelf.wheel("numpy", tag=f"cp312-cp312-{number}")
        for number, target in enumerate((LINUX, WINDOWS))
    }
    scripts = {
        "eval": {
            LINUX: [tool, click, wheels[LINUX]],
            WINDOWS: [tool, click, colorama, wheels[WINDOWS]],
        },
        "same": {LINUX: [tool, click, wheels[LINUX]]},
    }
    document = rendered(shelf, scripts, asks={"eval": ["tool"], "same": ["tool"]})
    reached = {}
    for lock in (f"eval/{LINUX}", f"same/{LINUX}", f"eval/{WINDOWS}"):
        (top,) = needs(document, lock)
        (middle,) = needs(document, top)
        reached[lock] = needs(document, middle)
    assert reached[f"eval/{LINUX}"] == reached[f"same/{LINUX}"] == [wheels[LINUX]]
    assert sorted(reached[f"eval/{WINDOWS}"]) == sorted([colorama, wheels[WINDOWS]])
    assert sum(one.get("name") == "click" for one in document["components"]) == 2


def test_graph_allows_circular_requirements(shelf: Shelf) -> None:
    one = shelf.wheel("one", "1.0", "Requires-Dist: two")
    two = shelf.wheel("two", "1.0", "Requires-Dist: one")
    document = rendered(
        shelf, {"eval": {LINUX: [one, two], MAC: [one, two]}}, asks={"eval": ["one"]}
    )
    assert (needs(document, one), needs(document, two)) == ([two], [one])
    assert len(document["components"]) == 5


def test_built_wheel_has_its_source(shelf: Shelf) -> None:
    digest = "ab" * 32
    built = shelf.wheel(
        "built",
        source=Source(index=INDEX, url="https://files.example/built.tar.gz", built_from=digest),
    )
    git = shelf.wheel(
        "git", source=Source(git="https://git.example/repo", commit="c0ffee" * 6 + "c0ff")
    )
    document = rendered(shelf, {"eval": {LINUX: [built, git]}})
    (reference,) = component(document, built)["externalReferences"]
    assert reference["hashes"] == [{"alg": "SHA-256", "content": digest}]
    (reference,) = component(document, git)["externalReferences"]
    found = (reference["type"], reference["url"], reference["comment"])
    assert found == ("vcs", "https://git.example/repo", "c0ffee" * 6 + "c0ff")


def test_yanked_version_is_marked(shelf: Shelf) -> None:
    path = shelf.wheel("numpy", yanked="")
    properties = component(rendered(shelf, {"eval": {LINUX: [path]}}), path)["properties"]
    assert {"name": "offline-bundle:yanked", "value": "no reason given"} in properties


def test_the_same_manifest_gives_the_same_bytes(shelf: Shelf) -> None:
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy"), shelf.wheel("scipy")]}})
    content = render_sbom(manifest, shelf.metadata)
    assert render_sbom(manifest, dict(reversed(shelf.metadata.items()))) == content
    document = json.loads(content)
    assert document["metadata"]["timestamp"].startswith("2026-01-02T03:04:05")
    other = shelf.manifest({"eval": {LINUX: [shelf.wheel("pandas")]}})
    assert (
        json.loads(render_sbom(other, shelf.metadata))["serialNumber"] != document["serialNumber"]
    )


HOSTILE = [
    "Summary: <script>alert(1)</script>",
    "License: \u202eTIM\x1b[31m",
    'Author-email: a@b@c, <script>@x, "unbalanced',
    "Home-page: javascript:alert(1)",
    'Project-URL: homepage, https://user:pass word@evil.example/"><b>',
    "Project-URL: no comma",
    "Requires-Dist: ;;; nonsense",
    "Requires-Dist: numpy; nonsense_marker == 'x'",
    "Requires-Dist: numpy; python_full_version < 'x'",
]  # fmt: skip


def test_hostile_metadata_gives_a_valid_sbom(shelf: Shelf) -> None:
    path = shelf.wheel("evil", "1.0", *HOSTILE)
    document = rendered(shelf, {"eval": {LINUX: [path, shelf.wheel("numpy")]}})
    text = json.dumps(component(document, path))
    assert "javascript:" not in text
    assert "\\u202e" not in text
    assert "\\u001b" not in text


@pytest.mark.parametrize(
    "content", [b"", b"\0\xff" * 100, b"Name", b":\n" * 1000, b"\n\nName: x", b"License: \xff\xfe"]
)
def test_unreadable_metadata_is_not_an_error(content: bytes) -> None:
    assert read_metadata(content).requires_dist == ()


def test_extras_count_if_they_are_required(shelf: Shelf) -> None:
    dask = shelf.wheel(
        "dask",
        "1.0",
        'Requires-Dist: numpy; extra == "array"',
        'Requires-Dist: dask[array]; extra == "all"',
    )
    numpy = shelf.wheel("numpy")
    for asked, needed in (
        (["dask"], ()),
        (["dask[array]"], ("numpy",)),
        (["dask[all]"], ("dask", "numpy")),
    ):
        manifest = shelf.manifest({"eval": {LINUX: [dask, numpy]}}, asks={"eval": asked})
        metadata = read_all_metadata(manifest, shelf.metadata)
        assert lock_graph(manifest, "eval", LINUX, metadata).needs["dask"] == needed


def test_requirement_of_some_patch_releases_counts(shelf: Shelf) -> None:
    redis = shelf.wheel("redis", "1.0", 'Requires-Dist: numpy; python_full_version < "3.12.3"')
    manifest = shelf.manifest(
        {"eval": {LINUX: [redis, shelf.wheel("numpy")]}}, asks={"eval": ["redis"]}
    )
    assert lock_graph(manifest, "eval", LINUX, read_all_metadata(manifest, shelf.metadata)).needs[
        "redis"
    ] == ("numpy",)

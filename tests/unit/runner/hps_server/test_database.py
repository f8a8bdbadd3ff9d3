from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.hps_server.store.database import Store, UnknownFieldError, parse_query
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline_bundle.runner.hps_server.store.database import Body


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.sqlite")
    made.on_question(lambda text: "elsewhere" not in (text or ""))
    yield made
    made.close()


def test_a_file_that_is_not_a_database_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "hps.sqlite").write_text("junk" * 100)
    with pytest.raises(BundleError, match=r"hps\.sqlite cannot be used: file is not a") as caught:
        Store(tmp_path / "hps.sqlite")
    assert "--data" in (caught.value.hint or "")


def names(bodies: list[Body]) -> list[str]:
    return [body["name"] for body in bodies]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([], ["a", "b", "c"]),
        ([("name", "b")], ["b"]),
        ([("name", "c"), ("name", "a")], ["a", "c"]),
        ([("name.in", "a,b")], ["a", "b"]),
        ([("name.ne", "b")], ["a", "c"]),
        ([("priority.lt", "10")], ["a", "b"]),
        ([("priority.ge", "10")], ["c"]),
        ([("priority", "2")], ["b"]),
        ([("active", "True")], ["c"]),
        ([("name.contains", "b")], ["b"]),
        ([("sort", "-creation_time"), ("limit", "1")], ["c"]),
        ([("sort", "-priority")], ["c", "b", "a"]),
        ([("limit", "1"), ("offset", "1")], ["b"]),
        ([("creation_time.gt", "2020-01-01 10:00:00.123")], ["a", "b", "c"]),
        ([("creation_time.gt", datetime(2100, 1, 1, tzinfo=UTC).isoformat())], []),
        ([("fields", "all"), ("statistics", "True"), ("id", "none")], []),
    ],
)
def test_queries(store: Store, query: list[tuple[str, str]], expected: list[str]) -> None:
    store.insert(
        "projects",
        [
            {"name": name, "priority": n, "active": n > 9}
            for name, n in zip("abc", (1, 2, 10), strict=True)
        ],
    )
    parsed = parse_query("projects", query)
    assert names(store.find("projects", parsed)) == expected
    if "limit" not in dict(query):
        assert store.count("projects", parsed) == len(expected)


@pytest.mark.parametrize("name", ["nonsense", "name'; DROP TABLE objects; --", "nonsense.gt"])
def test_unknown_fields_are_refused(name: str) -> None:
    with pytest.raises(UnknownFieldError, match="type object 'Project' has no attribute"):
        parse_query("projects", [(name, "1")])
    with pytest.raises(UnknownFieldError):
        parse_query("projects", [("sort", name)])


def test_statistics_follow_every_change(store: Store) -> None:
    jobs = store.insert(
        "jobs", [{"eval_status": state} for state in ("pending", "pending", "failed")], project="p"
    )
    assert store.statistics("p")["num_jobs"] == 3
    jobs[0]["eval_status"] = "running"
    store.save(jobs)
    store.delete("jobs", [jobs[2]["id"]])
    counted = store.statistics("p")
    assert {state: n for state, n in counted["eval_status"].items() if n} == {
        "running": 1,
        "pending": 1,
    }
    assert counted["num_jobs"] == 2
    store.delete_project("p")
    assert store.statistics("p")["num_jobs"] == 0


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():  # noqa: PT012
        store.insert("projects", [{"name": "a"}])
        _ = 1 / 0
    assert store.find("projects") == []


class TestReadyTasks:
    def project(self, store: Store, priority: int = 1, *, active: bool = True) -> str:
        return str(
            store.insert("projects", [{"name": "p", "active": active, "priority": priority}])[0][
                "id"
            ]
        )

    def tasks(
        self, store: Store, project: str, job: str, *levels: int, software: str = "here"
    ) -> list[Body]:
        bodies = [
            {
                "name": f"{job}{level}",
                "job_id": job,
                "eval_status": "pending",
                "task_definition_snapshot": {
                    "execution_level": level,
                    "software_requirements": [{"name": software}],
                },
            }
            for level in levels
        ]
        return store.insert("tasks", bodies, project=project)

    def ready(self, store: Store, limit: int = 10, busy: tuple[str, ...] = ()) -> list[str]:
        return [task["name"] for _, task in store.ready_tasks(limit, busy)]

    def test_levels_one_after_the_other(self, store: Store) -> None:
        first = self.tasks(store, self.project(store), "a", 1, 0, 1)[1]
        assert self.ready(store) == ["a0"]
        store.save([first | {"eval_status": "evaluated"}])
        assert self.ready(store) == ["a1", "a1"]

    def test_order_limit_and_what_is_left_out(self, store: Store) -> None:
        late, soon = self.project(store, 5), self.project(store, 1)
        self.tasks(store, late, "a", 0)
        busy = self.tasks(store, soon, "b", 0)[0]
        self.tasks(store, soon, "c", 0)
        self.tasks(store, soon, "d", 0, software="elsewhere")
        self.tasks(store, self.project(store, active=False), "e", 0)
        store.set_priority("b", 3)
        assert self.ready(store) == ["c0", "b0", "a0"]
        assert self.ready(store, busy=(busy["id"],)) == ["c0", "a0"]
        assert self.ready(store, 1) == ["c0"]

    def test_the_queue_is_found_by_an_index(self, store: Store) -> None:
        """10,000 jobs must not be looked through for each that begins."""
        plan = store._database.execute(
            "EXPLAIN QUERY PLAN SELECT body FROM objects AS task WHERE project = ? AND "
            "kind = 'tasks'"
            " AND status = 'pending' ORDER BY priority, seq LIMIT 1",
            ("p",),
        ).fetchall()
        assert "by_status" in json.dumps(plan)
        assert "TEMP B-TREE" not in json.dumps(plan)

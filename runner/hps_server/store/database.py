"""Every object of the server as a JSON document in one SQLite table.

Lists are in order of creation by default. Triggers count jobs by state, so that
reading a project's statistics costs the same for ten jobs and for a million.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offline_bundle.runner.hps_server.store.object_types import OBJECT_TYPES, STATES
from offline_bundle.wheelhouse.runtime.errors import BundleError

Body = dict[str, Any]

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    status TEXT GENERATED ALWAYS AS (json_extract(body, '$.eval_status')) VIRTUAL,
    parent TEXT GENERATED ALWAYS AS (json_extract(body, '$.job_id')) VIRTUAL,
    level INTEGER GENERATED ALWAYS AS
        (json_extract(body, '$.task_definition_snapshot.execution_level')) VIRTUAL
);
CREATE INDEX IF NOT EXISTS by_kind ON objects (project, kind, seq);
CREATE INDEX IF NOT EXISTS by_status ON objects (project, kind, status, priority, seq);
CREATE INDEX IF NOT EXISTS by_job ON objects (parent) WHERE kind = 'tasks';
CREATE TABLE IF NOT EXISTS statistics (
    project TEXT NOT NULL, status TEXT NOT NULL, jobs INTEGER NOT NULL,
    PRIMARY KEY (project, status)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS job_created AFTER INSERT ON objects WHEN NEW.kind = 'jobs' BEGIN
    INSERT INTO statistics VALUES (NEW.project, NEW.status, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER IF NOT EXISTS job_deleted AFTER DELETE ON objects WHEN OLD.kind = 'jobs' BEGIN
    UPDATE statistics SET jobs = jobs - 1 WHERE project = OLD.project AND status = OLD.status;
END;
CREATE TRIGGER IF NOT EXISTS job_changed AFTER UPDATE ON objects
WHEN NEW.kind = 'jobs' AND OLD.status IS NOT NEW.status BEGIN
    UPDATE statistics SET jobs = jobs - 1 WHERE project = OLD.project AND status = OLD.status;
    INSERT INTO statistics VALUES (NEW.project, NEW.status, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
"""

_COLUMNS = {"id": "id", "eval_status": "status", "job_id": "parent"}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_LETTERS = string.digits + string.ascii_letters
_SCOPE = ""
"""Project of objects outside any project: projects, operations, templates."""


class UnknownFieldError(Exception):
    """A query names a field that the kind does not have; the message is that of a real server."""


@dataclass(frozen=True)
class Query:
    """A query: conditions in SQL, with their values."""

    where: str = ""
    values: tuple[Any, ...] = ()
    order: str = "seq"
    limit: int = -1
    """-1 for no limit."""
    offset: int = 0


def new_id() -> str:
    """Return an id of 22 letters and digits, like those of a real server."""
    return "".join(secrets.choice(_LETTERS) for _ in range(22))


def now() -> str:
    """Return the current time in UTC as ISO 8601."""
    return datetime.now(UTC).isoformat()


def parse_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON document that can be written again.

    Raises ValueError for other text, and for lone surrogates, NaN and infinite numbers: `json`
    reads them, but a response with them cannot be sent.
    """
    document = json.loads(content.decode())
    _json(document)
    return document


def _json(document: object) -> str:
    """Return a document as JSON. Raises ValueError if a response could not hold it."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def parse_query(kind: str, parameters: Sequence[tuple[str, str]]) -> Query:
    """Parse the query parameters of a request. Raises UnknownFieldError."""
    controls: dict[str, str] = {}
    conditions: dict[str, list[str]] = {}
    for name, value in parameters:
        if name in {"limit", "offset", "sort"}:
            controls[name] = value
        elif name not in {"fields", "count", "statistics"}:
            conditions.setdefault(name, []).append(value)
    clauses = [_condition(kind, name, values) for name, values in conditions.items()]
    return Query(
        where="".join(f" AND {clause}" for clause, _ in clauses),
        values=tuple(value for _, values in clauses for value in values),
        order=_order(kind, controls.get("sort", "")),
        limit=int(controls.get("limit", "-1")),
        offset=int(controls.get("offset", "0")),
    )


def _expression(kind: str, name: str) -> str:
    if not OBJECT_TYPES[kind].has(name):
        raise UnknownFieldError(
            f"type object '{OBJECT_TYPES[kind].class_name}' has no attribute '{name}'"
        )
    return _COLUMNS.get(name, f"json_extract(body, '$.{name}')")


def _condition(kind: str, name: str, values: list[str]) -> tuple[str, list[Any]]:
    field_name, _, operator = name.partition(".")
    expression = _expression(kind, field_name)
    texts = [{"True": "1", "False": "0"}.get(value, value) for value in values]
    if operator in _COMPARISONS:
        comparable, value = _comparable(expression, texts[-1])
        return f"{comparable} {_COMPARISONS[operator]} ?", [value]
    if expression not in _COLUMNS.values():
        expression = f"CAST({expression} AS TEXT)"
    if operator == "contains":
        return f"instr({expression}, ?) > 0", texts[-1:]
    if operator == "ne":
        return f"{expression} IS NOT ?", texts[-1:]
    if operator == "in":
        texts = [part for text in texts for part in text.split(",")]
    return " ".join([expression, "IN (SELECT value FROM json_each(?))"]), [json.dumps(texts)]  # noqa: FLY002


def _comparable(expression: str, text: str) -> tuple[str, float | str]:
    """Return a value for comparison: a number, a time as this server writes it, or text."""
    with suppress(ValueError):
        return f"CAST({expression} AS REAL)", float(text)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return expression, moment.astimezone(UTC).isoformat()
    return expression, text


def _order(kind: str, sort: str) -> str:
    keys = [key.strip() for key in sort.split(",") if key.strip()]
    terms = [
        f"{_expression(kind, key.lstrip('-+'))} {'DESC' if key.startswith('-') else 'ASC'}"
        for key in keys
    ]
    newest_first = bool(keys) and keys[0].startswith("-")
    return ", ".join([*terms, "seq DESC" if newest_first else "seq"])


class Store:
    """The database. Each call is one transaction, except inside `transaction()`."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at *path*; raise BundleError if it cannot be used."""
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._database.close()
            hint = "free some space, or name another folder with --data"
            raise BundleError(f"{path} cannot be used: {error}", hint=hint) from error
        self._lock = threading.RLock()
        self._depth = 0

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction; other threads wait."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                if self._depth == 1:
                    self._database.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def insert(
        self, kind: str, bodies: Iterable[Body], *, project: str = _SCOPE, user: str = ""
    ) -> list[Body]:
        """Insert objects, with the defaults of their type; return them as stored."""
        moment = now()
        stamp = {
            "creation_time": moment,
            "modification_time": moment,
            "created_by": user,
            "modified_by": user,
        }
        made = [
            OBJECT_TYPES[kind].defaults | body | stamp | {"id": body.get("id") or new_id()}
            for body in bodies
        ]
        rows = [
            (body["id"], kind, project, body.get("priority") or 0, _json(body)) for body in made
        ]
        with self.transaction() as database:
            database.executemany(
                "INSERT INTO objects (id, kind, project, priority, body) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
        return made

    def find(self, kind: str, query: Query | None = None, *, project: str = _SCOPE) -> list[Body]:
        """Return the objects of a kind in a project."""
        query = query or Query()
        sql = (
            f"SELECT body FROM objects WHERE project = ? AND kind = '{kind}'{query.where}"  # noqa: S608 - all are checked
            f" ORDER BY {query.order} LIMIT ? OFFSET ?"
        )
        rows = self._rows(sql, project, *query.values, query.limit, query.offset)
        return [json.loads(body) for (body,) in rows]

    def count(self, kind: str, query: Query, *, project: str = _SCOPE) -> int:
        """Return the number of objects."""
        sql = f"SELECT count(*) FROM objects WHERE project = ? AND kind = '{kind}'{query.where}"  # noqa: S608 - the same
        return int(self._rows(sql, project, *query.values)[0][0])

    def get(self, kind: str, ids: Iterable[str]) -> list[Body]:
        """Return the objects with these ids, in this order; unknown ids are omitted."""
        wanted = list(ids)
        sql = (
            "SELECT id, body FROM objects WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"
        )
        found = dict(self._rows(sql, kind, json.dumps(wanted)))
        return [json.loads(found[identifier]) for identifier in wanted if identifier in found]

    def project_of(self, identifier: str) -> str:
        """Return the project of an object; empty if there is none."""
        rows = self._rows("SELECT project FROM objects WHERE id = ?", identifier)
        return str(rows[0][0]) if rows else ""

    def tasks_of(self, job_ids: Iterable[str]) -> list[Body]:
        """Return the tasks of these jobs, in order of creation."""
        sql = (
            "SELECT body FROM objects WHERE kind = 'tasks'"
            " AND parent IN (SELECT value FROM json_each(?)) ORDER BY seq"
        )
        return [json.loads(body) for (body,) in self._rows(sql, json.dumps(list(job_ids)))]

    def save(self, bodies: Iterable[Body], *, user: str | None = None) -> None:
        """Update existing objects; an object that was deleted meanwhile stays deleted."""
        stamp = {"modification_time": now()} | ({"modified_by": user} if user else {})
        rows = []
        for body in bodies:
            body.update(stamp)
            rows.append((_json(body), body.get("priority"), body["id"]))
        with self.transaction() as database:
            database.executemany(
                "UPDATE objects SET body = ?, priority = ifnull(?, priority) WHERE id = ?", rows
            )

    def set_priority(self, job_id: str, priority: int) -> None:
        """Move the tasks of a job in the queue."""
        with self.transaction() as database:
            database.execute(
                "UPDATE objects SET priority = ? WHERE kind = 'tasks' AND parent = ?",
                (priority, job_id),
            )

    def delete(self, kind: str, ids: Iterable[str]) -> None:
        """Delete objects; jobs together with their tasks."""
        text = json.dumps(list(ids))
        with self.transaction() as database:
            database.execute(
                "DELETE FROM objects WHERE kind = ? AND id IN (SELECT value FROM json_each(?))",
                (kind, text),
            )
            if kind == "jobs":
                database.execute(
                    "DELETE FROM objects WHERE kind = 'tasks'"
                    " AND parent IN (SELECT value FROM json_each(?))",
                    (text,),
                )

    def delete_project(self, identifier: str) -> None:
        """Delete a project and all objects in it."""
        with self.transaction() as database:
            database.execute(
                "DELETE FROM objects WHERE project = ? OR id = ?", (identifier, identifier)
            )
            database.execute("DELETE FROM statistics WHERE project = ?", (identifier,))

    def everything_in(self, project: str) -> list[tuple[str, Body]]:
        """Return kind and body of every object in a project."""
        rows = self._rows("SELECT kind, body FROM objects WHERE project = ? ORDER BY seq", project)
        return [(kind, json.loads(body)) for kind, body in rows]

    def statistics(self, project: str) -> Body:
        """Return the number of jobs, total and by state, at a cost independent of that number."""
        rows = self._rows("SELECT status, jobs FROM statistics WHERE project = ?", project)
        by_state = dict.fromkeys(STATES, 0) | dict(rows)
        return {"num_jobs": sum(by_state.values()), "eval_status": by_state}

    def on_question(self, can_run: Callable[[str | None], bool]) -> None:
        """Set the function that checks software requirements, given as JSON."""
        self._database.create_function("can_run", 1, can_run)

    def ready_tasks(self, limit: int, busy: Iterable[str]) -> list[tuple[str, Body]]:
        """Return (project, task) pairs to evaluate next: pending, active, lower levels evaluated.

        *busy* holds ids to skip.
        """
        projects = [body for body in self.find("projects") if body["active"]]
        projects.sort(key=lambda body: body["priority"] or 0)
        sql = (
            "SELECT body FROM objects AS task"
            " WHERE project = ? AND kind = 'tasks' AND status = 'pending'"
            " AND id NOT IN (SELECT value FROM json_each(?))"
            " AND can_run(json_extract(body, '$.task_definition_snapshot.software_requirements'))"
            " AND NOT EXISTS (SELECT 1 FROM objects AS earlier WHERE earlier.kind = 'tasks'"
            " AND earlier.parent = task.parent AND earlier.level < task.level"
            " AND earlier.status != 'evaluated')"
            " ORDER BY priority, seq LIMIT ?"
        )
        skipped = json.dumps(list(busy))
        ready: list[tuple[str, Body]] = []
        for project in projects:
            if len(ready) < limit:
                rows = self._rows(sql, project["id"], skipped, limit - len(ready))
                ready += [(project["id"], json.loads(body)) for (body,) in rows]
        return ready

    def interrupted_tasks(self) -> list[Body]:
        """Return tasks that the evaluator started; those set running by clients have no host."""
        sql = (
            "SELECT body FROM objects WHERE kind = 'tasks' AND status IN ('prolog', 'running')"
            " AND json_extract(body, '$.host_id') IS NOT NULL"
        )
        return [json.loads(body) for (body,) in self._rows(sql)]

    def _rows(self, sql: str, *values: object) -> list[Any]:
        with self.transaction() as database:
            return database.execute(sql, values).fetchall()

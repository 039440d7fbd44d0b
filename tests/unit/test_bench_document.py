"""The JSON holds all samples, matches its schema, and what does not is refused."""

import json
from pathlib import Path

import jsonschema
import pytest
from bench_reports import case, different, failed, measured, missing, report

import syncflow.bench
from syncflow.bench.case import Kind, Target
from syncflow.bench.document import BadDocumentError, from_json, read, to_json

SCHEMA = json.loads(
    (Path(syncflow.bench.__file__).parent / "schema.json").read_text(encoding="utf-8")
)

FULL = report(
    case(
        measured("ours", 1, 2, 3),
        measured("peer", 4, target=Target(Kind.SPEEDUP, 1.75)),
        missing("joblib", target=Target(Kind.RATIO, 0.3)),
        failed("dask"),
        different("pebble"),
        count=20,
        per="step",
        series="thread",
        at=20,
        others=0.5,
    ),
    case(measured("ours", 7), suite="memory", unit="B", others=None),
    quick=True,
    workers=3,
)


def document(**changes):
    """Return a good document with some keys changed."""
    return json.loads(to_json(FULL)) | changes


def with_case(**changes):
    """Return a good document with some keys of its first case changed."""
    text = document()
    text["cases"][0] |= changes
    return text


def with_side(**changes):
    """Return a good document with some keys of its first side changed."""
    text = document()
    text["cases"][0]["sides"][0] |= changes
    return text


DAMAGED = {
    "workers": document(workers=0),
    "quick": document(quick="yes"),
    "machine": document(machine=[]),
    "cases": document(cases={}),
    "case": document(cases=[7]),
    "no sides": with_case(sides=[]),
    "count": with_case(count=0),
    "true count": with_case(count=True),
    "name": with_case(name=None),
    "place": with_case(at=1.5),
    "others": with_case(others=-1),
    "outcome": with_side(outcome="guessed"),
    "samples": with_side(samples=["1"]),
    "negative sample": with_side(samples=[-1]),
    "target": with_side(target={"kind": "ratio"}),
    "kind of target": with_side(target={"kind": "best", "limit": 1}),
}


def test_is_a_schema():
    """The schema that is shipped is one itself."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_matches_its_schema():
    """What is written is what the schema describes."""
    jsonschema.validate(document(), SCHEMA)


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_has_a_strict_schema(damaged):
    """What cannot be read again does not match the schema, either."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(damaged, SCHEMA)


def test_comes_back_as_it_was():
    """Nothing is lost or rounded."""
    assert FULL == from_json(to_json(FULL))


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_refuses_what_is_damaged(damaged):
    """The reader checks what it needs; it has no schema validator at hand."""
    with pytest.raises(BadDocumentError, match="damaged"):
        from_json(json.dumps(damaged))


@pytest.mark.parametrize("key", ["quick", "workers", "machine", "cases"])
def test_refuses_what_is_incomplete(key):
    """Each key is needed."""
    text = document()
    del text[key]
    with pytest.raises(BadDocumentError, match=key):
        from_json(json.dumps(text))


@pytest.mark.parametrize("sample", ["NaN", "Infinity", "1e999"])
def test_refuses_what_is_no_figure(sample):
    """JSON of other makers may hold what cannot be compared."""
    with pytest.raises(BadDocumentError, match="damaged"):
        from_json(to_json(FULL).replace("7.0", sample))


@pytest.mark.parametrize("text", ["", "{", "\0", "[" * 100_000])
def test_refuses_what_is_not_json(text):
    """However it is broken."""
    with pytest.raises(BadDocumentError, match="not JSON"):
        from_json(text)


@pytest.mark.parametrize("text", ["[]", "7", "{}", '{"format": "other-bench-1"}'])
def test_refuses_what_is_foreign(text):
    """JSON alone is not enough."""
    with pytest.raises(BadDocumentError, match="format"):
        from_json(text)


def test_refuses_what_is_not_text(tmp_path):
    """A picture, say."""
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDocumentError, match="not text"):
        read(tmp_path / "picture")


def test_reads_what_was_written(tmp_path):
    """From a file."""
    (tmp_path / "report.json").write_text(to_json(FULL), encoding="utf-8")
    assert FULL == read(tmp_path / "report.json")

"""docs/benchmarks.md shows the table of the committed results."""

import json

from bench.run import RESULTS, write_results
from bench.servers import ROOT
from bench.table import write_table
from tests.write_docs import find_between_marks


def test_the_documents_table_is_made_of_the_committed_results() -> None:
    told = find_between_marks(ROOT / "docs" / "benchmarks.md", "BENCH")
    assert told.strip() == write_table(json.loads(RESULTS.read_text("utf-8"))).strip()


def test_results_come_back_as_they_were_with_a_record_a_line() -> None:
    told = {"rounds": 2, "machine": {"cpu": 'a "b"'}, "records": [{"round": 0, "per_s": 1.5}, {"round": 1}]}
    written = write_results(told)
    assert json.loads(written) == told
    assert '{"round": 1}' in written.splitlines()
    assert json.loads(write_results(told | {"records": []}))["records"] == []

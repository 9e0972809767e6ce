"""The cost of the marks is measured for each size and format, and signatures leave no memory behind."""

from pathlib import Path

import pytest

from bench.marking_cost import measure_costs, measure_growth
from service.provenance.marking import Marker
from service.provenance.signing import C2paSigner
from tests.certificates import certify_signer
from tests.service.provenance.test_marking import MODEL

pytest.importorskip("c2pa")
pytestmark = pytest.mark.slow


def test_it_tells_what_marks_cost_and_that_signatures_keep_no_memory(tmp_path: Path) -> None:
    chain, key, _ = certify_signer(tmp_path, "bench")
    signing = Marker(MODEL, signer=C2paSigner(chain, key))
    rows = list(measure_costs(Marker(MODEL), signing, rounds=1))
    assert len(rows) == 2 + 9
    assert all(0 < int(row.split("|")[-2]) <= 4096 for row in rows[2:]), "bytes of the manifest"
    assert measure_growth(signing, 100) < 5

"""The stage timer: time in the queue belongs to no stage."""

from service.observability.stage_timer import StageTimer


def test_the_first_stage_begins_where_the_queue_ends() -> None:
    timer = StageTimer()
    timer._begun -= 60
    timer.leave_queue()
    timer.end("decode")
    assert timer.spent_ms["decode"] < 30_000

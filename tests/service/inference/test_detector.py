"""Non-maximum suppression: one detection an eye, out of several scales."""

from dataclasses import replace

from service.inference.detector import Detection, suppress_non_maxima

SMALL = Detection(50.0, 40.0, 16.0, 0.1, 0.0, logit=3.0, input_distance_px=8.0, partner=(66.0, 40.0))
FINE = replace(SMALL, x=51.0, y=41.0, logit=2.0, input_distance_px=16.0)


def test_a_small_eye_is_where_the_finer_look_saw_it_and_as_sure_as_the_surer_one() -> None:
    for found in ([SMALL, FINE], [FINE, SMALL]):
        assert suppress_non_maxima(found) == [replace(FINE, logit=3.0)]


def test_a_finer_look_that_hardly_saw_it_is_not_believed() -> None:
    assert suppress_non_maxima([SMALL, replace(FINE, logit=0.5)]) == [SMALL]


def test_a_large_eye_is_where_the_surest_look_saw_it() -> None:
    large = replace(SMALL, distance=80.0, input_distance_px=40.0)
    assert suppress_non_maxima([large, replace(large, x=52.0, input_distance_px=80.0, logit=2.0)]) == [large]


def test_eyes_apart_stay_two() -> None:
    other = replace(SMALL, x=66.0, logit=1.0)
    assert suppress_non_maxima([SMALL, other, FINE]) == [replace(FINE, logit=3.0), other]

"""The eye finder and its refiner: labels, training scenes, models, calibration, evaluation."""

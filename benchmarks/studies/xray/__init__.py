"""Compare trainings on chest radiographs."""

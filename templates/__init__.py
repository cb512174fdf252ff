"""Templates of reports, of new assessments and of the demo systems, as data."""

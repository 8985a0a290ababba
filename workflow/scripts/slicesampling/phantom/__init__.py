"""The synthetic cohort of the demo and of the tests: patients, scans and files."""

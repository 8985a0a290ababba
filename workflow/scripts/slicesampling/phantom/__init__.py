"""The synthetic cohort of the demo and of the tests: patients, their scans, and the files of them."""

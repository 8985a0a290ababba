"""What a user can mend is one line and an exit code; anything else stays a traceback."""

import pytest
from slicesampling import UserError
from slicesampling.jobs.command import faults_in_one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("cohort.tsv: is empty"), "error: cohort.tsv: is empty"),
        (FileNotFoundError(2, "No such file or directory", "a.tsv"), "error: a.tsv: No such file or directory"),
        (OSError(28, "No space left on device", "b.tsv"), "error: b.tsv: No space left on device"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as ended, faults_in_one_line():
        raise error
    assert ended.value.code == line


def test_a_defect_is_a_traceback_and_success_is_silent() -> None:
    with pytest.raises(ZeroDivisionError), faults_in_one_line():
        _ = 1 / 0
    with faults_in_one_line():
        pass

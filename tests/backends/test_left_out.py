"""What the next engine process goes without."""

import pytest

from sightline.backends.left_out import REMEMBERED_S, LeftOut


def test_what_a_start_ended_on_is_left_out_once() -> None:
    left_out = LeftOut(("tower",))
    assert left_out.after_start(None) is None
    assert left_out.after_start("tower") is None, "it did not help"
    assert left_out.after_start("norm") == "norm"
    assert left_out.after_start("norm") is None
    assert left_out.names == ("tower", "norm")


@pytest.mark.parametrize(("pause_s", "newly"), [(60.0, "own"), (REMEMBERED_S + 1, None)])
def test_only_deaths_close_to_each_other_speak_against_kernels(
    pause_s: float, newly: str | None
) -> None:
    left_out = LeftOut(())
    assert left_out.after_service(1000.0) is None
    assert left_out.after_service(1000.0 + pause_s) == newly
    assert left_out.after_service(1000.0 + pause_s + 1) == (None if newly else "own")

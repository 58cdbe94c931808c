import pytest
from pictures import red_circle

pytestmark = pytest.mark.live


def test_a_question_is_answered_on_a_machine_where_nothing_runs(sightline):
    (sightline.folder / "circle.png").write_bytes(red_circle())
    outcome = sightline("ask", "-v", "circle.png", "这是什么?")
    assert outcome.status == 0, outcome.err
    assert "红" in outcome.out
    assert "圆" in outcome.out
    assert "image tokens" in outcome.err

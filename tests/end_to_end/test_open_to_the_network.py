import pytest

pytestmark = pytest.mark.live

BODY = {"model": "glm-4v", "messages": [{"role": "user", "content": "hello"}]}


def test_a_server_open_to_the_network_makes_a_key_and_wants_it(serve):
    with serve("--engine", "fake", "--host", "0.0.0.0") as served:
        line = next(line for line in served.log if "Made for this run" in line)
        key = line.split()[-1]
        assert served.post(BODY).status_code == 401
        assert served.post(BODY, authorization=f"Bearer {key}").status_code == 200


def test_a_key_that_was_given_is_wanted_and_never_shown(serve):
    with serve("--engine", "fake", "--api-key", "mine") as served:
        assert served.post(BODY).status_code == 401
        assert served.post(BODY, authorization="Bearer mine").status_code == 200
        assert "mine" not in "".join(served.log)

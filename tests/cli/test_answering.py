"""Which server and which model a question goes to."""

from sightline.cli.answering import _model_names
from sightline.client.chat import Client


def test_a_server_has_its_model_under_every_name_that_it_answers_to(fake_server) -> None:
    with Client(fake_server.url, api_key=fake_server.api_key) as client:
        names = _model_names(client)
    assert names[0] == fake_server.model_id
    assert "glm-4v" in names

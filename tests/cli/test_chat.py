def talk(sightline, fake_server, *lines: str, **environ: str):
    environ = {"SIGHTLINE_URL": fake_server.url, "SIGHTLINE_API_KEY": fake_server.api_key} | environ
    return sightline("chat", stdin="\n".join(lines).encode(), **environ)


def test_every_line_is_answered(sightline, fake_server):
    outcome = talk(sightline, fake_server, "hello", "你好", "/exit", "never")
    assert (outcome.status, outcome.out) == (0, "hello\n你好\n")


def test_the_end_of_input_ends_the_conversation(sightline, fake_server):
    assert talk(sightline, fake_server, "hello").status == 0


def test_the_conversation_is_saved_in_turns(sightline, fake_server):
    outcome = talk(sightline, fake_server, "hello", "again", "/save talk.txt")
    assert outcome.status == 0
    saved = (sightline.folder / "talk.txt").read_text()
    assert saved == "You: hello\n\nhello\n\nYou: again\n\nagain\n"


def test_a_cleared_conversation_is_forgotten(sightline, fake_server):
    talk(sightline, fake_server, "hello", "/clear", "again", "/save talk.txt")
    assert "hello" not in (sightline.folder / "talk.txt").read_text()


def test_a_missing_picture_does_not_end_the_conversation(sightline, fake_server):
    outcome = talk(sightline, fake_server, "/img none.png", "hello")
    assert "no file none.png" in outcome.err
    assert outcome.out == "hello\n"


def test_commands_explain_themselves_in_both_languages(sightline, fake_server):
    assert "/save FILE" in talk(sightline, fake_server, "/help").err
    assert "/save 文件" in talk(sightline, fake_server, "/help", SIGHTLINE_LANG="zh").err
    assert "No command /nothing" in talk(sightline, fake_server, "/nothing").err
    assert "/img wants a file" in talk(sightline, fake_server, "/img").err

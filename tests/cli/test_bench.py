import json


def bench(sightline, fake_server, *arguments):
    return sightline("bench", fake_server.url, *arguments, SIGHTLINE_API_KEY=fake_server.api_key)


def test_a_server_is_measured_in_closed_loops(sightline, fake_server):
    outcome = bench(
        sightline, fake_server, "--concurrency", "1,3", "--requests", "3", "--words", "5",
        "--json", "out.json", "--plot", "out.png",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    rows = [line for line in outcome.out.splitlines() if line.startswith("| C = ")]
    assert [row.split("|")[1].strip() for row in rows] == ["C = 1", "C = 3"]
    written = json.loads((sightline.folder / "out.json").read_text())
    assert [load["num_errors"] for load in written["loads"]] == [0, 0]
    assert fake_server.api_key not in json.dumps(written)
    assert (sightline.folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_server_is_measured_with_pictures_that_arrive_at_random(sightline, fake_server):
    outcome = bench(
        sightline, fake_server, "--rate", "50", "--requests", "4", "--words", "5",
        "--images", "distinct", "--image-size", "56",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "| 50/s |" in outcome.out


def test_what_cannot_be_measured_is_said_in_one_line(sightline, fake_server):
    for arguments in (
        ("--concurrency", "0"),
        ("--rate", "fast"),
        ("--images", "some"),
        ("--extra", "[]"),
        ("--json", "no/such/folder/out.json"),
        ("--plot", "."),
    ):
        outcome = bench(sightline, fake_server, *arguments)
        assert outcome.status == 2
        assert outcome.err.startswith("sightline: ")
        assert outcome.err.count("\n") == 1
    outcome = bench(sightline, fake_server, "--model", "nobody", "--requests", "1")
    assert outcome.status == 1
    assert "nobody" in outcome.err

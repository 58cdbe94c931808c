"""Figures from answers, without a server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from sightline.client.bench import Load, Timing, Work, make_body, measure, percentile, summarise
from sightline.client.bench_report import doubts, markdown, plot, round_step, to_json

WORK = Work(model="m", max_tokens=3)
LOAD = Load(num_requests=2, concurrency=2)


def answer(*arrivals: float, tokens: int = 3) -> Timing:
    return Timing(arrivals=arrivals, end_s=arrivals[-1], prompt_tokens=10, completion_tokens=tokens)


def test_times_are_those_that_a_reader_sees():
    report = summarise(LOAD, WORK, [answer(0.5, 0.6, 0.8), answer(0.7, 0.9, 1.1)], wall_s=2.0)
    assert report.tokens_per_s == 3.0
    assert report.requests_per_s == 1.0
    assert report.prompt_tokens == 10
    assert report.milliseconds["ttft"]["p50"] == pytest.approx(600)
    assert report.milliseconds["itl"]["p50"] == pytest.approx(200)
    assert report.milliseconds["tpot"]["p50"] == pytest.approx(175)
    assert report.milliseconds["e2e"]["p99"] == pytest.approx(1097)
    assert doubts(report) == []


def test_failures_and_short_answers_are_no_speed():
    report = summarise(LOAD, WORK, [answer(0.5, tokens=1), Timing(error="429 full")], wall_s=1.0)
    assert (report.num_errors, report.first_error, report.tokens_per_s) == (1, "429 full", 1.0)
    assert doubts(report) == ["1 errors (429 full)", "1 answers ended early"]
    assert report.milliseconds["itl"]["p50"] is None


def test_text_that_comes_in_bunches_is_doubted():
    report = summarise(LOAD, WORK, [answer(0.5, 0.50001, 0.50002)], wall_s=1.0)
    assert doubts(report) == ["100% of the text came in bunches"]


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([], 50) is None
    assert percentile([1.0], 99) == 1000
    assert percentile([0.0, 1.0], 50) == 500


def test_questions_are_new_for_every_key_and_number_and_equal_for_equal_ones():
    bodies = {make_body(Work(model="m", key=key), number) for key in "ab" for number in range(3)}
    assert len(bodies) == 6
    assert make_body(WORK, 1) == make_body(WORK, 1)


@pytest.mark.parametrize(("images", "distinct"), [("distinct", 3), ("same", 1)])
def test_pictures_are_distinct_or_the_same(images, distinct):
    work = Work(model="m", images=images, image_size=56)
    urls = {
        json.loads(make_body(work, n))["messages"][0]["content"][0]["image_url"]["url"]
        for n in range(3)
    }
    assert len(urls) == distinct


def test_further_fields_are_sent():
    body = json.loads(make_body(Work(model="m", extra={"ignore_eos": True}), 0))
    assert body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_reports_become_a_table_a_file_and_a_picture(tmp_path):
    loads = [Load(num_requests=2, concurrency=1), Load(num_requests=2, rate=0.5)]
    reports = [summarise(load, WORK, [answer(0.5, 0.6, 0.8)], wall_s=2.0) for load in loads]
    table = markdown(reports).splitlines()
    assert len(table) == 4
    assert "| C = 1 | 1.5 | 0.50 | 500.0 / 500.0 / 500.0 |" in table[2]
    assert table[3].startswith("| 0.5/s |")
    assert json.loads(to_json(WORK, reports))["loads"][1]["load"]["rate"] == 0.5
    plot(reports, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (960, 420)
        assert len(image.getcolors(10_000) or []) > 4


def test_a_server_that_does_not_stream_is_measured_by_its_whole_answers():
    class Plain(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
            body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (report,) = measure(f"http://127.0.0.1:{server.server_port}", WORK, [LOAD])
        server.shutdown()
    assert (report.num_errors, report.num_short, report.prompt_tokens) == (0, 0, 4)
    times = report.milliseconds
    assert 0 < times["ttft"]["p50"] <= times["e2e"]["p50"]


def test_the_lines_of_a_plot_stand_at_round_numbers():
    assert [round_step(least) for least in (0.03, 1, 7.1, 85.4, 240)] == [0.05, 1, 10, 100, 250]

from sightline.backends.watch import Watch


def test_an_engine_that_reports_is_not_hung() -> None:
    watch = Watch(10.0)
    for second in range(100):
        watch.tick(1.0, is_busy=True)
        watch.heard(float(second), is_busy=True)
        assert not watch.is_hung


def test_silence_for_the_whole_limit_is_a_hang() -> None:
    watch = Watch(10.0)
    watch.heard(0.0, is_busy=True)
    for _ in range(9):
        watch.tick(1.0, is_busy=True)
    assert not watch.is_hung
    watch.tick(1.0, is_busy=True)
    assert watch.is_hung


def test_an_engine_with_slow_steps_gets_five_times_as_long() -> None:
    watch = Watch(10.0)
    for step in range(5):
        watch.heard(step * 6.0, is_busy=True)
    assert watch.limit_s == 30.0


def test_an_idle_engine_with_rare_reports_is_no_excuse_for_a_hang() -> None:
    watch = Watch(10.0)
    for report in range(5):
        watch.heard(report * 60.0, is_busy=False)
    assert watch.limit_s == 10.0


def test_one_slow_step_among_many_does_not_stretch_the_limit() -> None:
    watch = Watch(10.0)
    now = 0.0
    for step in range(500):
        now += 9.0 if step == 250 else 0.01
        watch.heard(now, is_busy=True)
    assert watch.limit_s == 10.0


def test_a_watcher_that_was_stopped_does_not_take_its_own_silence_for_the_engines() -> None:
    watch = Watch(10.0)
    watch.tick(0.5, is_busy=True)
    watch.heard(0.5, is_busy=True)
    watch.tick(0.5, is_busy=True)  # the only one in a minute
    watch.heard(60.5, is_busy=True)
    assert watch.limit_s == 10.0


def test_silence_without_work_is_no_hang() -> None:
    watch = Watch(10.0)
    for _ in range(100):
        watch.tick(1.0, is_busy=False)
    assert watch.silent_s == 100.0
    assert not watch.is_hung
    watch.tick(1.0, is_busy=True)
    assert not watch.is_hung

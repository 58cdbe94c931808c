from sightline.backends.quarantine import MAX_REMEMBERED, Quarantine


def test_a_prompt_is_refused_after_two_crashes() -> None:
    quarantine = Quarantine()
    assert not quarantine.is_suspect("a")
    quarantine.blame(["a"])
    assert quarantine.is_suspect("a")
    assert not quarantine.is_refused("a")
    quarantine.blame(["a", ""])
    assert quarantine.is_refused("a")
    assert not quarantine.is_refused("")


def test_of_two_that_were_there_twice_none_is_refused_before_the_third_time() -> None:
    quarantine = Quarantine()
    for crashes in (1, 2):
        quarantine.blame(["a", "b"])
        assert not quarantine.is_refused("a")
        assert quarantine.is_tried_alone("a") == (crashes == 2)
    quarantine.blame(["a", "b"])
    assert quarantine.is_refused("a")


def test_the_same_prompt_twice_in_one_crash_counts_once() -> None:
    quarantine = Quarantine()
    quarantine.blame(["a", "a"])
    assert not quarantine.is_refused("a")


def test_an_answer_clears_a_suspect() -> None:
    quarantine = Quarantine()
    quarantine.blame(["a"])
    quarantine.clear("a")
    quarantine.blame(["a"])
    assert not quarantine.is_refused("a")


def test_the_oldest_are_forgotten() -> None:
    quarantine = Quarantine()
    quarantine.blame(["first"])
    for number in range(MAX_REMEMBERED):
        quarantine.blame([str(number)])
    assert not quarantine.is_suspect("first")

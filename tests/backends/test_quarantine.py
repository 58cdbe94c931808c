from sightline.backends.quarantine import MAX_REMEMBERED, Quarantine


def test_a_prompt_is_refused_after_two_crashes() -> None:
    quarantine = Quarantine()
    assert not quarantine.is_suspect(b"a")
    quarantine.blame([b"a"])
    assert quarantine.is_suspect(b"a")
    assert not quarantine.is_refused(b"a")
    quarantine.blame([b"a", b"b"])
    assert quarantine.is_refused(b"a")
    assert not quarantine.is_refused(b"b")


def test_the_same_prompt_twice_in_one_crash_counts_once() -> None:
    quarantine = Quarantine()
    quarantine.blame([b"a", b"a"])
    assert not quarantine.is_refused(b"a")


def test_an_answer_clears_a_suspect() -> None:
    quarantine = Quarantine()
    quarantine.blame([b"a"])
    quarantine.clear(b"a")
    quarantine.blame([b"a"])
    assert not quarantine.is_refused(b"a")


def test_the_oldest_are_forgotten() -> None:
    quarantine = Quarantine()
    quarantine.blame([b"first"])
    for number in range(MAX_REMEMBERED):
        quarantine.blame([number.to_bytes(4, "big")])
    assert not quarantine.is_suspect(b"first")

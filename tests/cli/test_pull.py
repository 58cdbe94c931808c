def test_every_known_model_is_listed_with_its_licence(sightline):
    lines = sightline("models", "--all").out.splitlines()
    assert any(line.split()[:2] == ["glm-4v-9b", "zai-org/glm-4v-9b"] for line in lines)
    assert any(line.startswith("qwen2.5-vl-3b ") and "commercial" in line for line in lines)


def test_an_unknown_name_gives_the_nearest_ones(sightline):
    outcome = sightline("pull", "glm4v")
    assert outcome.status == 2
    assert "Nearest: glm-4v-9b" in outcome.err
    assert "最接近" in sightline("--lang", "zh", "pull", "glm4v").err


def test_offline_asks_no_hub(sightline):
    outcome = sightline("pull", "glm-4v", HF_HUB_OFFLINE="1")
    assert outcome.status == 2
    assert "offline" in outcome.err


def test_a_downloaded_model_is_removed_with_its_leftovers(sightline):
    cache = sightline.folder / ".cache" / "sightline" / "models"
    for name in ("glm-4v-9b", ".partial-glm-4v-9b", "glm-4-9b-chat"):
        (cache / name).mkdir(parents=True)
        (cache / name / "config.json").write_text("{}")
    assert sightline("rm", "glm-4v").out.count("Removed") == 2
    assert [folder.name for folder in cache.iterdir()] == ["glm-4-9b-chat"]
    assert sightline("rm", "glm-4v").status == 2

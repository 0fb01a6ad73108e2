"""Cards: found everywhere, strict, errors that name file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_bench import cards
from ensemble_bench.errors import BadCard, UnknownName
from ensemble_bench.task import Catalogue, read

GOOD = """
name = "mine/cats"
version = 1
title = "Cats"
classes = ["cat", "no cat"]
templates = ["a {c}"]
licence = "MIT"
provenance = "here"
[source]
kind = "drawn"
[counts]
test = 4
[digests]
"""


def _card(folder: Path, text: str, name: str = "mine/cats") -> Path:
    path = folder / "tasks" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_own_task_card_can_be_read() -> None:
    catalogue = Catalogue()
    assert len(catalogue.collections["mini"]) >= 9
    for name in catalogue.paths:
        task = catalogue.task(name)
        assert task.name == name
        assert set(task.counts) == set(task.digests) == {"train", "test"}


def test_a_users_card_joins_the_others(tmp_path: Path) -> None:
    _card(tmp_path, GOOD)
    catalogue = Catalogue((tmp_path,))
    assert catalogue.collections["mine"] == ("mine/cats",)
    assert catalogue.task("mine/cats").chance == 0.5


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('title = "Cats"', 'titel = "Cats"', r"cats.toml: 'title' is missing"),
        ('title = "Cats"', 'title = "Cats"\ntitel = "x"', r"cats.toml: unknown key 'titel'. Did you mean title\?"),
        ('title = "Cats"', 'title = "Cats"\ntitle = "x"', r"cats.toml is no valid TOML"),
        ("version = 1", "version = true", r"cats.toml: 'version' must be a whole number, not True"),
        ("version = 1", "version = 0", r"cats.toml: 'version' must be at least 1, not 0"),
        (
            '["a {c}"]',
            '["a {c}", "a photo"]',
            r"cats.toml: 'templates' must contain \"\{c\}\" in every entry; number 2 is 'a photo'",
        ),
        ('["a {c}"]', "[]", r"'templates' must not be empty"),
        ('"no cat"', '"cat"', r"'classes' holds 'cat' more than once"),
        ('"no cat"', '" "', r"'classes' must hold texts that are not empty"),
        ('["cat", "no cat"]', '["cat"]', r"'classes' must hold at least two"),
        ("test = 4", "test = 4\nvalid = 3", r"'counts.valid' is no split"),
        ("test = 4", "train = 4", r"'counts.test' is missing"),
        ('"mine/cats"', '"mine/dogs"', r"'name' must be 'mine/cats'"),
        ('kind = "drawn"', "x = 1", r"'source.kind' is missing"),
    ],
)
def test_a_wrong_card_is_one_sentence(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = _card(tmp_path, GOOD.replace(before, after))
    with pytest.raises(BadCard, match=said):
        read(path, "mine/cats")


def test_the_name_of_another_card_is_taken(tmp_path: Path) -> None:
    _card(tmp_path, GOOD, "mini/digits")
    with pytest.raises(BadCard, match="same name 'mini/digits'"):
        cards.find("tasks", [tmp_path])


def test_a_folder_without_cards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCard, match="holds none of tasks/, collections/, corruptions/"):
        cards.find("tasks", [tmp_path])
    with pytest.raises(BadCard, match="is not a folder"):
        cards.find("tasks", [tmp_path / "nothing"])


def test_a_misspelt_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no task is called 'mini/digit'. Did you mean mini/digits"):
        Catalogue().task("mini/digit")
    with pytest.raises(UnknownName, match=r"Did you mean mini/digits\?"):
        Catalogue().task("digits")


def test_the_digest_sees_values_and_not_layout(tmp_path: Path) -> None:
    one = cards.Card(_card(tmp_path, GOOD)).digest
    assert cards.Card(_card(tmp_path, "# a comment\n" + GOOD)).digest == one
    assert cards.Card(_card(tmp_path, GOOD.replace("Cats", "Cat"))).digest != one

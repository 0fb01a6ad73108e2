"""Cards: found everywhere, strict, errors that name file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_bench import cards, shipped
from ensemble_bench.errors import BadCard, BadData, UnknownName
from ensemble_bench.task import Catalogue, Support, read

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


def test_every_embedded_card_can_be_read_and_is_whole() -> None:
    catalogue = Catalogue()
    assert len(catalogue.collections["mini"]) >= 9
    for name in catalogue.collections["mini"]:
        task = catalogue.task(name)
        assert task.name == name and task.verified
        assert set(task.counts) == set(task.digests) == set(task.splits) == {"train", "test"}


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
        ("[digests]", "[unknown]\ntest = 'lost'\nvalid = 'x'", r"'unknown.valid' is no split"),
        ("[digests]", "[unknown]\ntrain = 'not read'", r"'splits' must hold 'train', of which the card speaks"),
        ("[source]", 'splits = ["test", "all"]\n[source]', r"'splits' must be among train, test, not 'all'"),
        ("[source]", 'splits = ["train", "test"]\n[source]', r"'counts.train' is missing; .* or 'unknown.train' the reason"),
        ("test = 4", "test = 4\nclasses = 3", r"'counts.classes' is 3, and there are 2 class names"),
        ('title = "Cats"', 'title = "Cats"\nkind = "detection"', r"'kind' must be one of classification, multilabel"),
        ('title = "Cats"', 'title = "Cats"\nmetric = "map"', r"'metric' must not be map where the kind is classification"),
        ('title = "Cats"', 'title = "Cats"\nkind = "multilabel"\nmetric = "acc1"', r"'metric' must be map"),
        ('title = "Cats"', 'title = "Cats"\nverified = "no"', r"'verified' must be true or false, not 'no'"),
        ('title = "Cats"', 'title = "Cats"\ntraps = []', r"'traps' must not be empty"),
        ('title = "Cats"', 'title = "Cats"\nclasses_from = "web"', r"'classes_from' must be one of card, host, source"),
        ('title = "Cats"', 'title = "Cats"\nclasses_from = "host"', r"'classes' is given, and 'classes_from' says 'host'"),
        ('templates = ["a {c}"]', 'templates_from = "host"', r"'templates_key' is missing"),
        ('classes = ["cat", "no cat"]', 'classes_from = "source"', r"'counts.classes' must hold at least two"),
        ("[digests]", "[names]\nclass = 'x'", r"'names.class' is unknown: there are classes, templates"),
        ("[digests]", "[megabytes]\ntest = 'much'", r"'megabytes.test' must be a number of megabytes, not 'much'"),
        ("[digests]", "[support]\ntask = 'a'\nnone = 'b'", r"'support' must hold either 'task'"),
        ("[digests]", "[support]\ntask = 'a'\nclasses = [0]", r"'support.classes' must hold, for each of the 2 classes"),
        ("[digests]", "[support]\ntask = 'a'\nclasses = [0, [0, 1]]", r"names a class of the other task for two of ours"),
        ("[digests]", "[support]\ntasks = 'a'", r"'support.tasks' is unknown: there are task, classes, none"),
        ("test = 4", "test = 4\ntrain = 2\n[support]\ntask = 'a'", r"'support' is for tasks without a train split"),
    ],
)
def test_a_wrong_card_is_one_sentence(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = _card(tmp_path, GOOD.replace(before, after))
    with pytest.raises(BadCard, match=said):
        read(path, "mine/cats")


NAMED = """
name = "mine/cats"
version = 1
title = "Cats"
host = "vtab/eurosat"
classes_from = "host"
classes_subset = [3, 1]
templates_from = "source"
licence = "MIT"
provenance = "here"
verified = false
[source]
kind = "drawn"
[counts]
test = 4
[names]
templates = "TEMPLATES"
"""
PROMPTS = ["a {c}", "the {c}"]


def test_names_that_ship_with_the_host_and_names_that_come_with_the_data(tmp_path: Path) -> None:
    task = read(_card(tmp_path, NAMED.replace("TEMPLATES", shipped.digest(PROMPTS))), "mine/cats")
    assert task.classes == ("highway or road", "forest") and task.templates == ()
    assert task.class_count == 2 and not task.complete
    whole = task.with_names(["ignored"], PROMPTS)
    assert whole.complete and whole.classes == task.classes and whole.templates == tuple(PROMPTS)
    with pytest.raises(BadData, match="mine/cats: the templates that came with it are not those of its card"):
        task.with_names([], ["another {c}"])
    with pytest.raises(BadData, match=r"lacks \"\{c\}\": 'a photo'"):
        task.with_names([], ["a photo"])
    with pytest.raises(BadData, match="no prompt templates came with it"):
        task.with_names([], [])


def test_class_names_that_come_with_the_data_are_counted_and_compared(tmp_path: Path) -> None:
    text = GOOD.replace('classes = ["cat", "no cat"]', 'classes_from = "source"').replace("test = 4", "test = 4\nclasses = 2")
    task = read(_card(tmp_path, text + f'[names]\nclasses = "{shipped.digest(["a", "b"])}"'), "mine/cats")
    assert task.chance == 0.5 and task.classes == ()
    assert task.with_names(["a", "b"], []).classes == ("a", "b")
    with pytest.raises(BadData, match="3 class names came with it; its card says 2"):
        task.with_names(["a", "b", "c"], [])
    with pytest.raises(BadData, match="the classes that came with it are not those of its card"):
        task.with_names(["b", "a"], [])


def test_names_that_the_host_no_longer_ships_are_trouble_and_not_the_end(tmp_path: Path) -> None:
    other = NAMED.replace('templates = "TEMPLATES"', f'classes = "{"0" * 64}"').replace("test = 4", "test = 4\nclasses = 2")
    task = read(_card(tmp_path, other), "mine/cats")
    assert task.classes == () and task.class_count == 2
    assert task.trouble.startswith("mine/cats: the classes that clip_benchmark ") and "whose sha256 is 0000" in task.trouble
    unknown = NAMED.replace('host = "vtab/eurosat"', 'host = "vtab/nowhere"').replace("classes_subset = [3, 1]", "")
    task = read(_card(tmp_path, unknown.replace("test = 4", "test = 4\nclasses = 2")), "mine/cats")
    assert "ships no classes called 'nowhere'" in task.trouble
    with pytest.raises(BadCard, match="'classes_subset' must be places among 10 names, not 10"):
        read(_card(tmp_path, NAMED.replace("[3, 1]", "[3, 10]")), "mine/cats")


def test_labels_of_another_task_become_ours() -> None:
    assert Support("other").labels([2, 0]) == [2, 0]
    assert Support("other", ((5,), (2, 7))).labels([7, 5, 0, 2]) == [1, 0, None, 1]


def _collection(folder: Path, name: str, tasks: str) -> None:
    path = folder / "collections" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'name = "{name}"\ntitle = "T"\nprovenance = "here"\ntasks = {tasks}\n')


def test_a_collection_of_the_users_own(tmp_path: Path) -> None:
    _card(tmp_path, GOOD)
    _collection(tmp_path, "pair", '["mini/digits", "mine/cats"]')
    catalogue = Catalogue((tmp_path,))
    assert catalogue.collections["pair"] == ("mini/digits", "mine/cats")
    assert catalogue.belongs("mine/cats") == {"mine": 1, "pair": 2}
    _collection(tmp_path, "pair", '["mini/digit"]')
    with pytest.raises(
        BadCard, match=r"pair.toml: 'tasks' names 'mini/digit', and no task is called so. Did you mean mini/digits"
    ):
        _ = Catalogue((tmp_path,)).collections
    (tmp_path / "collections" / "pair.toml").unlink()
    _collection(tmp_path, "mnist", '["mini/digits"]')
    with pytest.raises(BadCard, match="there is a task called 'mnist' too"):
        _ = Catalogue((tmp_path,)).collections


def test_a_mean_is_over_tasks_with_one_right_answer(tmp_path: Path) -> None:
    _card(tmp_path, GOOD)
    _card(tmp_path, GOOD.replace("mine/cats", "mine/many").replace("[source]", 'kind = "multilabel"\n[source]'), "mine/many")
    catalogue = Catalogue((tmp_path,))
    assert catalogue.collections["mine"] == ("mine/cats", "mine/many")
    assert catalogue.belongs("mine/cats") == {"mine": 1} and catalogue.belongs("mine/many") == {}


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

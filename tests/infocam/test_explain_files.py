"""`infocam.explain` and its files: what is read, what is added, what an interruption leaves."""

import json

import pytest
from explain_files import COMMON, boxes, files

from infocam import explanation
from infocam.explain import main


def test_files_folders_and_patterns_are_read_and_unreadable_ones_reported(
    small_imagenet, picture, run_explain, tmp_path, user_error
):
    for name in ("a/cat.png", "b/cat.jpg", "c/cat-2.png", "c/d/dog.webp", "e/fox.png"):
        picture(name)
    places = tmp_path / "pictures"
    (places / "c/notes.txt").write_text("no picture")
    broken = places / "c/broken.png"
    broken.write_bytes((places / "a/cat.png").read_bytes()[:200])
    words = [places / "a/cat.png", places / "b*/*.jpg", places / "c", "--methods", "cam"]
    folder, printed = run_explain(*words)
    stems = ["cat", "cat-2", "cat-2-2", "dog"]
    assert boxes(folder)["name"].tolist() == stems
    assert files(folder) == COMMON | {f"{s}.{end}" for s in stems for end in ("png", "npz")}
    assert f"left out {broken}: not a readable image (OSError)" in printed.splitlines()
    assert f"left out 1 files that are no pictures, such as {places}/c/notes.txt" in printed
    line = user_error(main, [broken, "--output-dir", tmp_path / "none", "--device", "cpu"])
    assert f"none of 1 pictures could be read, first {broken}: not a readable image" in line
    assert not (tmp_path / "none").exists()
    line = user_error(main, [places / "*.gif", "--output-dir", tmp_path / "none"])
    assert f"{places}/*.gif: no such file or folder, and no match" in line


def test_a_second_call_adds_and_never_replaces(small_imagenet, picture, run_explain):
    folder, _ = run_explain(picture("cat.png"), "--methods", "cam")
    (folder / "dog.jpg").write_text("the user's own")
    before = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    run_explain(picture("cat.png"), picture("dog.png"), "--methods", "infocam", "--format", "svg")
    new = {"cat-2.svg", "cat-2.npz", "dog-2.svg", "dog-2.npz"}
    assert files(folder) == before.keys() | new
    added_to = {"boxes.csv", "boxes.json", "explain.html", "config.json"}
    for name in before.keys() - added_to:
        assert (folder / name).read_bytes() == before[name]
    table = (folder / "boxes.csv").read_bytes()
    assert table.startswith(before["boxes.csv"]) and len(table) > len(before["boxes.csv"])
    assert boxes(folder)["name"].tolist() == ["cat", "cat-2", "dog-2"]
    assert len(json.loads((folder / "boxes.json").read_text())) == 3
    page = (folder / "explain.html").read_text()
    assert [page.count(f'<section id="{name}">') for name in ("cat", "cat-2", "dog-2")] == [1] * 3


def test_what_is_finished_stays_when_the_command_is_interrupted(
    small_imagenet, picture, run_explain, monkeypatch
):
    def interrupted(*words, **options):
        if words[0].name == "dog":
            raise KeyboardInterrupt
        return write(*words, **options)

    write = explanation.write_explanation
    monkeypatch.setattr(explanation, "write_explanation", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run_explain(picture("cat.png"), picture("dog.png"), picture("fox.png"))
    assert stopped.value.code == 130
    folder = picture().parents[1] / "out"
    assert files(folder) == COMMON | {"cat.png", "cat.npz"}
    assert set(boxes(folder)["name"]) == {"cat"}
    assert {entry["name"] for entry in json.loads((folder / "boxes.json").read_text())} == {"cat"}
    assert '<section id="cat">' in (folder / "explain.html").read_text()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", '{"entry": "infocam.train"}', "out: not an output of infocam.explain;"),
        ("config.json", "{}", "out: not an output of infocam.explain; choose another"),
        ("config.json", None, "out exists; use --overwrite or another --output-dir"),
        ("boxes.csv", "a,b\n1,2\n", "boxes.csv: columns a, b; move it"),
        ("boxes.csv", "", "boxes.csv: not a table; move it"),
    ],
)
def test_nothing_is_added_to_a_folder_of_something_else(
    small_imagenet, picture, run_explain, user_error, file, text, said
):
    folder, _ = run_explain(picture("cat.png"))
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    line = user_error(main, [picture("dog.png"), "--output-dir", folder, "--device", "cpu"])
    assert said in line
    assert not (folder / "dog.png").exists() and (folder / "cat.png").exists()


def test_overwrite_replaces_the_files_of_an_earlier_call(small_imagenet, picture, run_explain):
    folder, _ = run_explain(picture("cat.png"))
    run_explain(picture("dog.png"), "--overwrite")
    assert files(folder) == COMMON | {"dog.npz", "dog.png"}
    assert set(boxes(folder)["name"]) == {"dog"}


def test_overwrite_does_not_delete_what_it_is_to_explain(
    small_imagenet, picture, run_explain, tmp_path, user_error
):
    folder, _ = run_explain(picture("cat.png"))
    words = [folder / "cat.png", "--output-dir", folder, "--overwrite", "--device", "cpu"]
    assert f"holds the input {folder}/cat.png;" in user_error(main, words)
    words = [picture(), "--run", folder, "--output-dir", folder, "--overwrite", "--device", "cpu"]
    assert f"holds the input {folder};" in user_error(main, words)
    assert (folder / "cat.npz").exists()

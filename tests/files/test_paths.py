"""Which paths are a project file's: the rule that refuses, and the names that must pass."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.files.errors import PathRefused
from store.files.paths import MAX_PATH_BYTES, is_plain, parse, parse_folder, text_of

REFUSED = {
    "F01": ("../../../../etc/passwd", "path-parent"),
    "F01 inside": ("a/../b", "path-parent"),
    "F01 at the end": ("a/..", "path-parent"),
    "F01 dot": ("a/./b", "path-parent"),
    "F01 backslash": ("..\\..\\etc\\passwd", "path-characters"),
    "F02 absolute": ("/etc/passwd", "path-absolute"),
    "F02 double": ("//etc/passwd", "path-absolute"),
    "F02 home": ("~/x", "path-home"),
    "F02 somebody's home": ("~root/x", "path-home"),
    "F02 home alone": ("~", "path-home"),
    "F02 drive": ("C:\\x", "path-characters"),
    "F02 drive slash": ("C:/x", "path-scheme"),
    "F02 drive relative": ("c:x", "path-scheme"),
    "F02 scheme": ("file:///etc/passwd", "path-scheme"),
    "F02 other scheme": ("data:text/plain,x", "path-scheme"),
    "F07": ("a\0.txt", "path-characters"),
    "F07 newline": ("a\n.txt", "path-characters"),
    "F07 escape": ("a\x1b[2J", "path-characters"),
    "F07 C1": ("a\x9b", "path-characters"),
    "F07 separator": ("a\u2028b", "path-characters"),
    "turned": ("invoice\u202egpj.exe", "path-characters"),
    "half a character": ("a\ud800", "path-characters"),
    "F09": ("/dev/zero", "path-absolute"),
    "F09 proc": ("../../proc/self/environ", "path-parent"),
    "empty": ("", "path-empty"),
    "empty name": ("a//b", "path-empty"),
    "ends in a slash": ("a/", "path-empty"),
    "blank name": ("a/ /b", "path-empty"),
    "long name": ("x" * 256, "path-length"),
    "long name in bytes": ("ä" * 128, "path-length"),
    "long path": ("/".join(["x" * 200] * 6), "path-length"),
    "deep": ("/".join("a" * 17), "path-depth"),
}  # fmt: skip

PASSES = [
    "a", "a.txt", "reports/2024/march.csv", "über uns/naïve café.txt", "日本語/報告.md",
    "with space.txt", " leading", "trailing ", ".ssh/authorized_keys", ".hidden", "...", "a..b",
    "..a", "x.html", "10:30.txt", "Notes: today.txt", "~$report.docx",
    "file~", "a&b;c|d$(e)`f`'g\"h", "<script>alert(1)", "%2e%2e", "-rf", "*",
    "emoji 👩‍👩‍👧.png", "x" * 255, "/".join("a" * 16), "CON", "results/x.json", "‥", "a／b",
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_path_of_a_project(case: str) -> None:
    path, rule = REFUSED[case]
    with pytest.raises(PathRefused) as refused:
        parse(path)
    assert refused.value.rule == rule
    assert rule in refused.value.detail


@pytest.mark.parametrize("path", PASSES)
def test_names_are_data(path: str) -> None:
    assert text_of(parse(path)) == path


def test_one_name_has_one_spelling() -> None:
    decomposed = unicodedata.normalize("NFD", "é/ü.txt")
    assert parse(decomposed) == parse("é/ü.txt") == ("é", "ü.txt")


@pytest.mark.parametrize("path", [None, "", ".", "./", "/"])
def test_the_projects_own_folder(path: str | None) -> None:
    assert parse_folder(path) == ()


def test_folders_may_end_in_a_slash() -> None:
    assert parse_folder("a/b/") == parse_folder("./a/b") == ("a", "b")
    for path in ("/etc/", "..", "../", "~/", "a//"):
        with pytest.raises(PathRefused):
            parse_folder(path)


@given(st.text(max_size=40) | st.text("./~:\\a\0 ", max_size=12))
def test_what_passes_stays_beneath(path: str) -> None:
    try:
        names = parse(path)
    except PathRefused:
        return
    assert all(name.strip() and name not in {".", ".."} and "/" not in name for name in names)
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for name in names for char in name)
    assert len(text_of(names).encode()) <= MAX_PATH_BYTES
    assert parse(text_of(names)) == names
    assert all(map(is_plain, names))

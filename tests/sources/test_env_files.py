"""Files and directories as they are mounted: what is read, what is refused, what counts as a change."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sillyproxy.config.schema import Origin
from sillyproxy.sources.files import MAX_FILE_BYTES, MAX_FILES, MAX_NAMES, fingerprint, read_files


def values_of(*paths: Path) -> dict[str, str]:
    """Return what the files set; there is nothing wrong with them."""
    reading = read_files([str(path) for path in paths])
    assert not reading.problems
    return {name: origin.text for name, origin in reading.draft.items()}


def reasons_of(*paths: Path) -> list[str]:
    """Return what is wrong with the files."""
    return [problem.reason for problem in read_files([str(path) for path in paths]).problems]


def look(path: Path) -> bytes:
    """Return the fingerprint of one path; reading the files gives the same."""
    found = fingerprint([str(path)])
    assert found == read_files([str(path)]).fingerprint
    return found


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may not read everything, should we be root."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


class ConfigMap:
    """A directory as a kubelet makes it of a config map: links to `..data`, a link that is swapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        path.mkdir()

    def swap(self, keys: dict[str, str]) -> None:
        """Bring in new content for all keys at once, then take away what is no longer a key."""
        self.count += 1
        old = os.readlink(self.path / "..data") if self.count > 1 else None
        new = self.path / f"..2026_{self.count}"
        new.mkdir()
        for key, text in keys.items():
            (new / key).write_text(text)
        (self.path / "..data_tmp").symlink_to(new.name)
        (self.path / "..data_tmp").rename(self.path / "..data")
        for key in keys:
            if not (self.path / key).is_symlink():
                (self.path / key).symlink_to(f"..data/{key}")
        for entry in self.path.iterdir():
            if not entry.name.startswith("..") and entry.name not in keys:
                entry.unlink()
        if old:
            for file in (self.path / old).iterdir():
                file.unlink()
            (self.path / old).rmdir()


def test_file_says_where_each_value_stands(tmp_path: Path) -> None:
    """
    `sillyproxy check` can show the file and the line of each value.
    """
    file = tmp_path / "edge.env"
    file.write_text("# edge\nBLUE=http://a\nBLUE_WEIGHT=4\n")

    assert read_files([str(file)]).draft == {
        "BLUE": Origin("http://a", f"file {file}, line 2"),
        "BLUE_WEIGHT": Origin("4", f"file {file}, line 3"),
    }


def test_later_file_wins(tmp_path: Path) -> None:
    """
    Files hold in the order in which they are named, each over those before it.
    """
    first, second = tmp_path / "b.env", tmp_path / "a.env"
    first.write_text("A=1\nB=1\n")
    second.write_text("A=2\n")

    assert values_of(first, second) == {"A": "2", "B": "1"}
    assert values_of(second, first) == {"A": "1", "B": "1"}


def test_files_of_a_directory_hold_in_the_order_of_their_names(tmp_path: Path) -> None:
    """
    `20-canary.env` wins over `10-base.env`, whatever order they were made in.
    """
    (tmp_path / "20-canary.env").write_text("A=2")
    (tmp_path / "10-base.env").write_text("A=1\nB=1")

    assert values_of(tmp_path) == {"A": "2", "B": "1"}


def test_directory_has_files_of_lines_and_files_of_one_variable(tmp_path: Path) -> None:
    """
    A mounted secret or a config map's key is the value of the variable that it is named after.
    """
    (tmp_path / "edge.env").write_text("BLUE=http://a\n")
    (tmp_path / "BLUE_WEIGHT").write_text("4\n")
    reading = read_files([str(tmp_path)])

    assert reading.draft == {
        "BLUE": Origin("http://a", f"file {tmp_path}/edge.env, line 1"),
        "BLUE_WEIGHT": Origin("4", f"file {tmp_path}/BLUE_WEIGHT"),
    }


def test_file_named_itself_has_lines(tmp_path: Path) -> None:
    """
    Only a directory's files are named after variables; `/EDGE` named in full is a file like any other.
    """
    (tmp_path / "EDGE").write_text("A=1")

    assert values_of(tmp_path / "EDGE") == {"A": "1"}


@pytest.mark.parametrize(
    "name", [".edge.env", ".edge.env.swp", "..data", "edge.env~", "#edge.env#", ".#edge.env"]
)
def test_hidden_files_and_editors_copies_are_left_out(tmp_path: Path, name: str) -> None:
    """
    The old copy that an editor leaves behind does not bring the old values back.
    """
    (tmp_path / "edge.env").write_text("A=new")
    (tmp_path / name).write_text("A=old")

    assert values_of(tmp_path) == {"A": "new"}


def test_what_is_no_file_in_a_directory_is_left_out(tmp_path: Path) -> None:
    """
    Subdirectories, sockets and pipes beside the files are nobody's settings, and nobody waits for them.
    """
    (tmp_path / "edge.env").write_text("A=1")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "edge.env").write_text("B=1")
    (tmp_path / "link").symlink_to("more")
    os.mkfifo(tmp_path / "PIPE")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))

        assert values_of(tmp_path) == {"A": "1"}


def test_config_map_is_read_and_its_swap_is_a_change(tmp_path: Path) -> None:
    """
    A kubelet swaps one hidden link; the new values are there at once, all of them.
    """
    config_map = ConfigMap(tmp_path / "config")
    config_map.swap({"edge.env": "BLUE=http://a\n", "BLUE_WEIGHT": "4", "GREEN_WEIGHT": "1"})
    before = look(config_map.path)
    assert values_of(config_map.path) == {"BLUE": "http://a", "BLUE_WEIGHT": "4", "GREEN_WEIGHT": "1"}
    assert look(config_map.path) == before

    config_map.swap({"edge.env": "BLUE=http://a\n", "BLUE_WEIGHT": "0"})

    assert values_of(config_map.path) == {"BLUE": "http://a", "BLUE_WEIGHT": "0"}
    assert look(config_map.path) != before


def test_swap_to_the_same_content_is_no_change(tmp_path: Path) -> None:
    """
    A volume that is written anew without a difference causes no reload.
    """
    config_map = ConfigMap(tmp_path / "config")
    config_map.swap({"edge.env": "A=1"})
    before = look(config_map.path)

    config_map.swap({"edge.env": "A=1"})

    assert look(config_map.path) == before


@pytest.mark.parametrize("named", ["file", "directory"])
def test_editors_rename_is_a_change(tmp_path: Path, named: str) -> None:
    """
    A new file that an editor renames over the old one is seen, by the file's name and the directory's.
    """
    file = tmp_path / "edge.env"
    path = file if named == "file" else tmp_path
    file.write_text("A=1")
    before = look(path)

    (tmp_path / ".edge.env.tmp").write_text("A=2")
    (tmp_path / ".edge.env.tmp").rename(file)

    assert values_of(path) == {"A": "2"}
    assert look(path) != before


def test_change_in_place_of_the_same_length_and_time_is_a_change(tmp_path: Path) -> None:
    """
    What counts is the content: clocks that stand still, or files of the same size, hide nothing.
    """
    file = tmp_path / "edge.env"
    file.write_text("A=1")
    before, times = look(file), file.stat()

    with file.open("r+") as stream:
        stream.write("A=2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert look(file) != before


def test_docker_config_is_a_file_without_write_permission(tmp_path: Path) -> None:
    """
    A Docker config is a plain file, readable for all, at the path where the service mounts it.
    """
    file = tmp_path / "edge"
    file.write_text("BLUE=http://a\r\n")
    file.chmod(0o444)

    assert values_of(file) == {"BLUE": "http://a"}


def test_file_that_appears_or_goes_is_a_change(tmp_path: Path) -> None:
    """
    A new file in a directory counts like new content, and so does one that is gone, and an empty one.
    """
    seen = {look(tmp_path)}
    (tmp_path / "a.env").write_text("")
    seen.add(look(tmp_path))
    (tmp_path / "a.env").rename(tmp_path / "b.env")
    seen.add(look(tmp_path))
    (tmp_path / "b.env").unlink()
    tmp_path.rmdir()
    seen.add(look(tmp_path))

    assert len(seen) == 4


def test_missing_file_is_a_problem_that_names_it(tmp_path: Path) -> None:
    """
    A file that is not there is a mistake, at the start and at a reload; the others are read all the same.
    """
    there, missing = tmp_path / "a.env", tmp_path / "b.env"
    there.write_text("A=1")
    reading = read_files([str(missing), str(there)])

    assert reading.draft == {"A": Origin("1", f"file {there}, line 1")}
    (problem,) = reading.problems
    assert problem.setting == f"SILLYPROXY_ENV_FILE={missing},{there}"
    assert problem.source == "environment"
    assert problem.reason == f"{missing}: no such file or directory"


def test_link_to_nothing_is_a_problem(tmp_path: Path) -> None:
    """
    A directory's file that leads nowhere would lose its settings in silence.
    """
    (tmp_path / "edge.env").symlink_to("gone")
    (tmp_path / "loop.env").symlink_to("loop.env")

    assert reasons_of(tmp_path) == [
        f"{tmp_path}/edge.env: no such file or directory",
        f"{tmp_path}/loop.env: too many levels of symbolic links",
    ]


def test_pipe_and_device_are_refused_without_waiting(tmp_path: Path) -> None:
    """
    A pipe without a writer, or a device, does not hold up the process that all others depend on.
    """
    os.mkfifo(tmp_path / "pipe")

    assert reasons_of(tmp_path / "pipe", Path("/dev/zero")) == [
        f"{tmp_path}/pipe: neither a file nor a directory",
        "/dev/zero: neither a file nor a directory",
    ]


@pytest.mark.parametrize(("more", "reasons"), [(0, []), (1, ["larger than 1 MiB"])])
def test_file_has_a_greatest_size(tmp_path: Path, more: int, reasons: list[str]) -> None:
    """
    A database named by mistake is not read into memory.
    """
    file = tmp_path / "edge.env"
    file.write_bytes(b"#" * (MAX_FILE_BYTES + more))

    assert reasons_of(file) == [f"{file}: {reason}" for reason in reasons]


@pytest.mark.parametrize(
    ("count", "reasons"), [(MAX_FILES, []), (MAX_FILES + 1, [f"more than {MAX_FILES} files in all"])]
)
def test_files_have_a_greatest_number(tmp_path: Path, count: int, reasons: list[str]) -> None:
    """
    A directory of thousands of files is not read several times a second.
    """
    for n in range(count):
        (tmp_path / f"{n:04}.env").touch()

    assert reasons_of(tmp_path) == [f"{tmp_path}: {reason}" for reason in reasons]


def test_directory_without_end_is_refused(tmp_path: Path) -> None:
    """
    `/tmp` or a mail spool named by mistake is refused before all its names are looked at.
    """
    for n in range(MAX_NAMES + 1):
        (tmp_path / f".{n}").touch()

    assert reasons_of(tmp_path) == [f"{tmp_path}: a directory of more than {MAX_NAMES} names"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_other_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    """
    A file saved as "Unicode" on Windows is refused with what to do.
    """
    file = tmp_path / "edge.env"
    file.write_bytes("\ufeffA=1".encode(encoding))

    assert reasons_of(file) == [f"{file}: UTF-16; save it as UTF-8"]


def test_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    """
    A secret that belongs to another user is told from one that is missing.
    """
    file = tmp_path / "edge.env"
    file.touch(0o000)
    with nobody():
        assert reasons_of(file) == [f"{file}: permission denied"]


@pytest.mark.parametrize(
    "paths", [["\0"], [""], ["/proc/self/mem"], ["/dev/null/x"], ["x" * 5000], ["\udcff"]]
)
def test_any_path_is_read_or_refused(paths: Sequence[str]) -> None:
    """
    No path, however odd, stops the process that looks at it.
    """
    reading = read_files(paths)

    assert reading.problems
    assert all(str(problem).isprintable() for problem in reading.problems)
    assert fingerprint(paths) == reading.fingerprint

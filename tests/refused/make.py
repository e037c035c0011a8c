#!/usr/bin/env python3
"""Writes catalogues/ and layers/ beside it, which machines and builders must refuse, and an INDEX of each: one line for each
folder or file, with what is wrong and a part of what the refusal says, separated by tabs.

  make.py          writes them
  make.py check    says whether what is there is what it would write
"""

import pathlib
import shutil
import sys
import tempfile

import bad_catalogues  # noqa: F401 (it fills the list of cases)
import catalogues
import layers

HERE = pathlib.Path(__file__).parent


def write(to: pathlib.Path) -> None:
    for name, module in [("catalogues", catalogues), ("layers", layers)]:
        folder = to / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        index = module.write(folder)
        (folder / "INDEX").write_text("".join(index))


def files(folder: pathlib.Path) -> dict[str, bytes]:
    found = [path for name in ["catalogues", "layers"] for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def main() -> None:
    if sys.argv[1:] != ["check"]:
        write(HERE)
        return
    with tempfile.TemporaryDirectory() as made:
        write(pathlib.Path(made))
        there, wanted = files(HERE), files(pathlib.Path(made))
    if differing := sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)):
        sys.exit(f"not what make.py writes: {', '.join(differing)}")
    print(f"{len(wanted)} files that must be refused are as the script makes them")


if __name__ == "__main__":
    main()

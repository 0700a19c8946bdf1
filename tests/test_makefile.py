"""`make` hands the data on that a person named, whatever its path looks like and however it was given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize("given_by", ["environment", "command line"])
@pytest.mark.parametrize("name", ["fer2013 copy", "faces", "~/at home", "it's mine", "a  b"])
def test_the_data_s_path_arrives_absolute_and_whole(tmp_path, name, given_by):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "FER_DATA"} | {"HOME": str(tmp_path / "h")}
    folder = Path(name.replace("~", environment["HOME"]))
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "fer2013").mkdir()  # what make took of "fer2013 copy"
    command = ["make", "--silent", "--eval", "show: ; @printf %s \"$$FER_DATA\"", "show"]
    if given_by == "environment":
        environment["FER_DATA"] = name
    else:
        command.append(f"FER_DATA={name}")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == str((tmp_path / folder).resolve())


def test_a_name_that_is_no_path_stays(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    done = subprocess.run(["make", "--silent", "--eval", "show: ; @printf %s \"$$FER_DATA\"", "show",
                           "FER_DATA=synthetic"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "synthetic"

"""Archives are read like what they hold, by what they are, and with the same distrust."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from corpus import LABELS, USAGES, csv_text, faces_of, png, write_tree, write_zip

from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError

FACES = faces_of(14)
TEXT = csv_text(FACES, LABELS, USAGES).encode()
FACE = png(FACES[0])


def load(source):
    return load_faces(source, cache=False, progress=False)


def tar(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=format) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data) if isinstance(data, bytes) else 0
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return file.getvalue()


@pytest.mark.parametrize(("name", "data"), [
    ("fer2013.tar", tar({"fer2013/fer2013.csv": TEXT, "fer2013/README": b"text"})),
    ("fer2013.tar.gz", tar({"./fer2013/fer2013.csv": TEXT}, "w:gz")), ("fer2013.tgz", tar({"train.csv": TEXT}, "w:gz")),
    ("fer2013.csv.gz", gzip.compress(TEXT)), ("icml_face_data.csv.GZ", gzip.compress(TEXT)),
    ("fer2013.csv", tar({"fer2013/fer2013.csv": TEXT}, format=tarfile.GNU_FORMAT)),
    ("fer2013.zip", tar({"fer2013.csv": TEXT}, "w:gz")), ("gzipped.csv", gzip.compress(TEXT))])
@pytest.mark.parametrize("inside", [False, True])
def test_archives_of_a_csv_are_read_like_the_csv_whatever_they_are_called(tmp_path, name, data, inside):
    if inside and name == "gzipped.csv":
        name = "train.csv"
    (tmp_path / name).write_bytes(data)
    faces = load(tmp_path if inside else tmp_path / name)
    assert np.array_equal(faces.images.numpy(), FACES) and faces.labels.tolist() == LABELS


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_of_folders_is_read_like_the_folders(tmp_path, mode):
    root = write_tree(tmp_path / "data")
    with tarfile.open(tmp_path / "faces.tar", mode) as archive:
        archive.add(root, "archive")
    plain, packed = load(root), load(tmp_path / "faces.tar")
    assert np.array_equal(plain.images, packed.images) and plain.ids.tolist() == packed.ids.tolist()
    assert plain.split.tolist() == packed.split.tolist()


def test_a_zip_called_csv_is_read(tmp_path):
    assert len(load(write_zip(tmp_path / "train.csv", {"fer2013.csv": TEXT}))) == 14


def special(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("train/happy/a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


WHOLE = tar({"train/happy/a.png": FACE, "train/sad/b.png": FACE, "test/sad/c.png": FACE, "test/happy/d.png": FACE})
BOMB = gzip.compress(bytes(110 << 20), 1)
BAD = {
    "leads outside": (tar({"../a.png": FACE}), "points outside"),
    "is absolute": (tar({"/a.png": FACE}), "points outside"),
    "symbolic link": (tar({"a": special(tarfile.SYMTYPE)}), "is a link"),
    "hard link": (tar({"a": special(tarfile.LNKTYPE)}), "is a link"),
    "device": (tar({"a": special(tarfile.CHRTYPE)}), "a device"),
    "twice": (tar({"train/sad/a.png": FACE, "./train/sad/a.png": FACE}), "twice"),
    "cut in a file": (WHOLE[:-11_000], "tar is damaged"), "cut at a header": (WHOLE[:WHOLE.index(b"train/sad")],
                                                                             "tar is damaged"),
    "damaged header": (WHOLE.replace(b"test/sad/c.png", b"test/sad/x.png"), "tar is damaged"),
    "bomb": (BOMB, "would unpack to"), "cut gzip": (gzip.compress(TEXT)[:-100], "gzip is damaged"),
    "flipped gzip": (gzip.compress(TEXT)[:-8] + bytes(8), "gzip is damaged"),
    "gzip of nothing": (gzip.compress(b""), "faces.tar"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_archive_that_is_damaged_or_not_to_be_trusted_is_refused_by_name(tmp_path, kind):
    data, words = BAD[kind]
    (tmp_path / "faces.tar").write_bytes(data)
    with pytest.raises(FerError, match=words) as caught:
        load(tmp_path / "faces.tar")
    assert "faces.tar" in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["faces.tar"]

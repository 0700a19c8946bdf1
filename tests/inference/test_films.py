"""Films are looked at by their own clock, upright, whatever wrote them; what moves in a GIF or a WebP is one, too."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fer_helpers.files import FerError
from fer_helpers.inference.films import Tracker, animation_frames, film_frames
from fer_helpers.inference.photographs import frames

av = pytest.importorskip("av")
WIDTH, HEIGHT = 160, 96


def shade(number: int) -> np.ndarray:
    """A picture that tells its number, bright above."""
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    picture[:HEIGHT // 4] = 20 * (number % 9) + 60
    return picture


def number_of(picture: np.ndarray) -> int:
    return round((float(picture[:HEIGHT // 6].mean()) - 60) / 20)


def write_film(path, times, codec, container=None, rate=1000):
    with av.open(str(path), "w", format=container) as film:
        stream = film.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.time_base = Fraction(1, rate)
        for number, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(shade(number), format="rgb24")
            frame.pts, frame.time_base = round(seconds * rate), Fraction(1, rate)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [
    ("browser.webm", "libvpx"), ("camera.mp4", "mpeg4"), ("phone.mov", "libx264"), ("new.mkv", "libsvtav1"),
    ("apple.m4v", "libx264"), ("dense.mp4", "libx265"), ("tv.ts", "mpeg2video")])
def test_a_film_is_looked_at_by_its_own_time_stamps(tmp_path, name, codec):
    # Five pictures in the first half second, then one a second: a mean rate would place none of them.
    times = [0, 0.1, 0.2, 0.3, 0.4, 1.5, 2.5, 3.5]
    path = write_film(tmp_path / name, times, codec, rate=20 if codec in ("mpeg2video", "libsvtav1") else 1000)
    looks = list(film_frames(path, 1.0))
    assert [number_of(picture) for _, picture in looks] == [0, 5, 6, 7]
    assert [seconds for seconds, _ in looks] == pytest.approx([0, 1.5, 2.5, 3.5], abs=0.05)
    assert len(list(film_frames(path, 0))) == len(times)


@pytest.mark.parametrize("frames_a_second", [10, 29.97])
def test_a_look_every_half_second_of_an_even_film_misses_none(tmp_path, frames_a_second):
    times = np.arange(int(3 * frames_a_second)) / frames_a_second
    path = write_film(tmp_path / "even.mp4", times, "mpeg4", rate=30_000)
    seconds = [seconds for seconds, _ in film_frames(path, 0.5)]
    assert seconds == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=1 / frames_a_second)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)])
def test_a_film_held_on_its_side_is_shown_upright(tmp_path, matrix, turns):
    path = write_film(tmp_path / "phone.mp4", [0, 1], "mpeg4")
    plain = next(film_frames(path))[1]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: the matrix begins after 40 bytes
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        struct.pack_into(">i", content, start + place, value << 16)
    path.write_bytes(content)
    assert np.abs(next(film_frames(path))[1].astype(int) - np.rot90(plain, turns)).mean() < 1


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp"])
def test_an_animation_is_a_film_and_a_still_is_none(tmp_path, name):
    pictures = [Image.fromarray(shade(number)) for number in range(4)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[100, 900, 1000, 1000],
                     lossless=True)
    looks = list(animation_frames(tmp_path / name, 1.0))
    assert [seconds for seconds, _ in looks] == pytest.approx([0, 1, 2])
    assert [number_of(picture) for _, picture in looks] == [0, 2, 3]
    pictures[0].save(tmp_path / f"still-{name}")
    assert list(animation_frames(tmp_path / f"still-{name}")) == []


def test_a_film_cut_short_gives_what_is_left_and_none_of_it_one_line(tmp_path):
    path = write_film(tmp_path / "cut.ts", [0, 1, 2, 3], "mpeg2video", rate=20)
    path.write_bytes(path.read_bytes()[:-2000])
    assert 1 <= len(list(film_frames(path))) <= 4
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(FerError, match=r"cut\.ts: is no readable film .*; convert it to mp4"):
        list(film_frames(path))


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n",
                                  "ffconcat version 1.0\nfile film.mp4\n"])
def test_a_play_list_is_no_film(tmp_path, text):
    write_film(tmp_path / "film.mp4", [0, 1], "mpeg4")
    for suffix in (".mp4", ".ts"):
        (tmp_path / f"list{suffix}").write_text(text)
        with pytest.raises(FerError, match="is no readable film"):
            list(film_frames(tmp_path / f"list{suffix}"))


def test_a_face_keeps_its_number_while_it_moves_little_and_ranks_change():
    tracker, left, right = Tracker(), (0, 0, 100, 100), (300, 0, 380, 80)
    assert tracker.track([left, right]) == [1, 2]
    assert tracker.track([(310, 5, 420, 115), (10, 5, 105, 100)]) == [2, 1]  # who came nearer is now first
    assert tracker.track([]) == [] and tracker.track([left]) == [3]


def test_two_faces_never_share_a_number():
    tracker = Tracker()
    tracker.track([(0, 0, 100, 100)])
    assert sorted(tracker.track([(5, 0, 105, 100), (0, 5, 100, 105)])) == [1, 2]


@pytest.mark.parametrize(("name", "kind"), [("saved.webp", "JPEG"), ("renamed.gif", "PNG")])
def test_a_still_picture_under_the_name_of_an_animation_is_a_picture(tmp_path, name, kind):
    Image.fromarray(shade(1)).save(tmp_path / name, format=kind)
    (seconds, picture), = frames(tmp_path / name)
    assert seconds is None and picture.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["cut.gif", "cut.webp"])
def test_an_animation_cut_short_is_named_as_a_picture_that_cannot_be_read(tmp_path, name):
    pictures = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (90, 90, 3), np.uint8)) for n in range(3)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=1000)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:2000])
    with pytest.raises(FerError, match=r"cut\.\w+: is no readable image"):
        list(frames(tmp_path / name))

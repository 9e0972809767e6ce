from pathlib import Path

import pytest

from service.folder.listing import NoPhotos, list_photos


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_every_ending_of_a_format_that_is_read_is_a_photo(tmp_path: Path) -> None:
    names = {"a.jpg", "b.JPEG", "c.jpe", "d.jfif", "e.MPO", "f.png", "g.webp", "h.avif", "i.bmp"}
    _touch(tmp_path, *names)
    listing = list_photos([tmp_path])
    assert {photo.name for photo in listing.photos} == names and not str(listing)


def test_what_is_no_photo_is_counted_by_kind(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "b/c.txt", "b/D.TXT", "e.heic", "README")
    assert str(list_photos([tmp_path])) == "left out: 2 .txt, 1 .heic, 1 without ending"


def test_hidden_files_and_thumbnails_of_file_servers_are_no_photos(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "._a.jpg", ".b.jpg", ".trash/c.jpg", "d/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg")
    listing = list_photos([tmp_path])
    assert listing.photos == [tmp_path / "a.jpg"]
    assert str(listing) == "left out: 3 hidden, 1 @eaDir"


def test_a_hidden_photo_that_is_named_is_taken(tmp_path: Path) -> None:
    _touch(tmp_path, ".b.jpg", "c.heic")
    assert list_photos([tmp_path / ".b.jpg", tmp_path / "c.heic"]).photos == [
        tmp_path / ".b.jpg",
        tmp_path / "c.heic",
    ]


def test_a_link_to_a_folder_is_told_by_its_path_and_one_to_a_photo_is_taken(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b.jpg", "elsewhere/c.jpg")
    (tmp_path / "a" / "d").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "e.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    listing = list_photos([tmp_path / "a"])
    assert [photo.name for photo in listing.photos] == ["b.jpg", "e.jpg"]
    assert str(listing) == f"left out: 1 link to a folder ({tmp_path / 'a' / 'd'})"


def test_a_folder_without_photos_says_what_it_holds_instead(tmp_path: Path) -> None:
    _touch(tmp_path, "a.heic", "b.heic")
    with pytest.raises(NoPhotos, match=r"no photos in .*; looked for \.avif, .*; left out: 2 \.heic$"):
        list_photos([tmp_path])

"""The markers of MRSeg's conversations: those that cannot be read, and what is none."""

from __future__ import annotations

import pytest

from seg_zero.dialogue.data.markers import read_markers, same_picture


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[MASK-DECODE:a.jpg|refcoco]", "2 parts between"),
        ("[MASK-DECODE:a:b:c]", "2 colons; a decoded mask has 0, 4 or 5"),
        ("[MASK-ENCODE:none:none:1:a.jpg:refcoco]", "4 colons; a decoded mask has 0, 4 or 5, and others have none"),
        ("[IMAGE256:]", "names no picture"),
        ("[MASK-DECODE:|refcoco|1]", "names no picture or no set"),
        ("[MASK-DECODE:a.jpg|refcoco|NULL]", "the id 'NULL' is neither"),
        ("[see BOX-ENCODE]", "does not begin with one of IMAGE256:"),
        ("[image256:a.png]", "does not begin with one of IMAGE256:"),
        ("[ Mask-Encode:a.png|refcoco|1]", "does not begin with one of IMAGE256:"),
    ],
)
def test_a_malformed_marker_is_quoted(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as caught:
        read_markers(f"look {text} here")
    assert repr(text) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "quoted", "words"),
    [
        ("[IMAGE256:a.png Segment a person.", "[IMAGE256:a.png Segment a person.", "not closed"),
        ("[MASK-ENCODE:a.png|refcoco|1 the other one", "[MASK-ENCODE:a.png|refcoco|1 the other one", "not closed"),
        ("[IMAGE256:a.png [MASK-ENCODE:a.png|refcoco|1] it", "[IMAGE256:a.png ", "not closed"),
        ("It is [mask-decode:a.png|refcoco|1.", "[mask-decode:a.png|refcoco|1.", "not closed"),
        ("[look at BOX-ENCODE", "[look at BOX-ENCODE", "not closed"),
        ("x IMAGE256:a.png] y", "IMAGE256:a.png", "not opened"),
    ],
)
def test_a_marker_that_lacks_a_bracket_is_quoted(text: str, quoted: str, words: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as caught:
        read_markers(text)
    assert str(caught.value) == f"the marker {quoted!r} cannot be read: it is {words}"


def test_other_brackets_and_the_names_of_markers_are_text() -> None:
    text = "what does [this] (IMAGE256, mask-encode) say: [x, [y]]?"
    assert read_markers(text) == [text]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a.png", "sub/a.jpg", True),
        ("sub\\a.png", "a.png", True),
        ("train2014/COCO_train2014_000000000009.jpg", "train2017/000000000009.jpg", True),
        ("COCO_val2014_000000000009.jpg", "COCO_train2014_000000000009.jpg", True),
        ("a.png", "b.png", False),
        ("a/x.png", "x/a.png", False),
        ("train2017/000000000009.jpg", "train2017/000000000019.jpg", False),
    ],
)
def test_folder_format_and_edition_do_not_tell_pictures_apart(one: str, other: str, same: bool) -> None:
    assert same_picture(one, other) is same

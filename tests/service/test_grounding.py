import json

from sightline.core.chat import BoxUnits, ImageReport
from sightline.service.grounding import Place, places_in


def picture(width: int, height: int, units: BoxUnits = "thousandths") -> ImageReport:
    return ImageReport(
        param="messages[0].content[0].image_url",
        original_width=width,
        original_height=height,
        width=448,
        height=448,
        num_tokens=256,
        box_units=units,
    )


def test_boxes_are_pixels_of_the_original_picture():
    text = "<ref>the dog</ref><box>(100,250),(500,1000)</box>"
    assert places_in(text, [picture(2000, 800)]) == [Place(0, "the dog", ((200, 200), (1000, 800)))]


def test_one_name_may_have_several_boxes_and_a_quad_has_four_corners():
    text = (
        "<ref> cats</ref><box>(0,0),(10,10)</box><box>(20,20),(30,30)</box> and "
        "<box>(1,1),(2,2)</box><ref>sign</ref><quad>(0,0),(500,0),(500,500),(0,500)</quad>"
    )
    places = places_in(text, [picture(1000, 1000)])
    assert [place.label for place in places] == ["cats", "cats", "", "sign"]
    assert len(places[3].points) == 4


def test_the_latest_picture_is_meant():
    places = places_in("<box>(0,0),(1000,1000)</box>", [picture(10, 10), picture(640, 480)])
    assert places == [Place(1, "", ((0, 0), (640, 480)))]


def test_qwen2s_marks_are_read_too():
    text = (
        "<|object_ref_start|>a cup<|object_ref_end|><|box_start|>(500,500),(1000,1000)<|box_end|>"
    )
    assert places_in(text, [picture(100, 200)]) == [Place(0, "a cup", ((50, 100), (100, 200)))]


def test_qwen25_means_pixels_of_the_picture_that_it_was_shown():
    text = "<|box_start|>(224,112),(448,448)<|box_end|>"
    assert places_in(text, [picture(896, 448, "pixels")]) == [
        Place(0, "", ((448, 112), (896, 448)))
    ]


def test_boxes_in_json_are_read_too():
    text = """```json
    [
        {"bbox_2d": [0, 112, 224, 448], "label": "a cup"},
        {"label": "狗", "bbox_2d": [1.5, 2, 3, 4.25]},
        {"bbox_2d": [5, 6, 7, 8]}
    ]
    ```"""
    places = places_in(text, [picture(448, 896, "pixels")])
    assert places == [
        Place(0, "a cup", ((0, 224), (224, 896))),
        Place(0, "狗", ((2, 4), (3, 8))),
        Place(0, "", ((5, 12), (7, 16))),
    ]
    (place,) = places_in('{"bbox_2d": [0, 0, 500, 1000]}', [picture(10, 20)])
    assert place.points == ((0, 0), (5, 20))


def test_a_label_in_json_may_hold_what_json_is_written_with():
    for label in ("f(x) { return [x] }", "}{", 'the "bbox_2d" sign', "C:\\\\{x}", "", "一个{杯}子"):
        for value in (
            {"bbox_2d": [0, 0, 500, 1000], "label": label},
            {"label": label, "bbox_2d": [0, 0, 500, 1000]},
        ):
            for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
                (place,) = places_in(f"Look: {text}!", [picture(10, 20)])
                assert place == Place(0, label, ((0, 0), (5, 20)))


def test_names_may_hold_any_characters_but_marks():
    box = "<box>(0,0),(10,10)</box>"
    for text, label in (
        ("<ref>a < b</ref>", "a < b"),
        ("<ref>黑色的猫（左）</ref>", "黑色的猫（左）"),
        ("<ref><ref>cup</ref></ref>", "cup"),
        ("<ref>dog</ref><ref>cat</ref>", "cat"),
        ("<ref>dog</ref> beside", ""),
    ):
        (place,) = places_in(text + box, [picture(1000, 1000)])
        assert place.label == label


def test_what_is_no_box_is_left_alone():
    for text in (
        "",
        "<box>(1,2)</box>",
        "<box>(1,2),(3,4)",
        "<box>x</box>",
        "(1,2),(3,4)",
        "<box>(1,2),(3,4),(5,6</box>",
        "<box>(1,2),(3,4),(5,6),(7,8)</box>",
        "<quad>(1,2),(3,4)</quad>",
        "<box>(1,2),(3,4)</quad>",
        "<box>(1,2),,(3,4)</box>",
        "<box>(10000,2),(3,4)</box>",
        '{"bbox_2d": [1, 2, 3]}',
        '{"bbox_2d": [1, 2, 3, "4"]}',
        '{"bbox_2d": [1, 2, 3, true]}',
        '{"bbox_2d": [1, 2, -3, 4]}',
        '{"bbox_2d": [1, 2, NaN, 4]}',
        '{"bbox_2d": [1, 2, 1e400, 4]}',
        '{"bbox_2d": "1, 2, 3, 4"}',
        '{"bbox_2d": [1, 2, 3, 4',
        '{"a": "bbox_2d"}',
        "{bbox_2d: [1, 2, 3, 4]}",
        '{"a" "bbox_2d": [1, 2, 3, 4]}',
    ):
        assert places_in(text, [picture(10, 10)]) == []
    assert places_in("<box>(1,2),(3,4)</box>", []) == []
    for piece in (
        "<box>", "{", '{"bbox_2d"', '"bbox_2d"', '{"bbox_2d": [1, 2, 3, 4]' + " " * 590,
        '{"', '"{', '{"a"', '{"a{', '{"\\', '"\\"{', '{"a": "' + "{" * 500 + '"',
    ):  # fmt: skip
        assert places_in(piece * 20_000, [picture(10, 10)]) == []

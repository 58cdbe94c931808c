"""What the bundled model should say: one canonical sentence per question and truth.

One wording each keeps a small model sure of itself, also when it samples.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from training.phrases import EN_PLURALS, EN_SHAPES, ZH_COLORS, ZH_SHAPES, Language
from training.world import COLORS, SHAPES, Scene, Thing

LOW_EDGE, HIGH_EDGE = 0.4, 0.6
MARGIN = 0.015
_ZH_PLACES = {
    (0, 0): "左上方", (1, 0): "上方", (2, 0): "右上方", (0, 1): "左边", (1, 1): "中间",
    (2, 1): "右边", (0, 2): "左下方", (1, 2): "下方", (2, 2): "右下方",
}  # fmt: skip
_EN_PLACES = {
    (0, 0): "at the top left", (1, 0): "at the top", (2, 0): "at the top right",
    (0, 1): "on the left", (1, 1): "in the middle", (2, 1): "on the right",
    (0, 2): "at the bottom left", (1, 2): "at the bottom", (2, 2): "at the bottom right",
}  # fmt: skip
_ZH_COUNTS = ("零", "一", "两", "三", "四")
_EN_COUNTS = ("no", "one", "two", "three", "four")

SIDES: dict[str, dict[Language, str]] = {
    "left": {"zh": "左边", "en": "on the left"},
    "right": {"zh": "右边", "en": "on the right"},
    "top": {"zh": "上方", "en": "at the top"},
    "bottom": {"zh": "下方", "en": "at the bottom"},
    "middle": {"zh": "中间", "en": "in the middle"},
}

REFUSAL: dict[Language, str] = {
    "zh": "抱歉，我无法识别这张图片，它超出了我的范围。我只认识简单的彩色图形和数字。",
    "en": (
        "Sorry, I cannot recognise this picture: it is outside my small world of simple coloured "
        "shapes and printed numbers."
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A question before it is put into words.

    `shape` and `color` are what it is about, "" for any; `side` a key of `SIDES`; `number` the
    one it names. `is_pronoun`: it is called "it".
    """

    topic: str
    shape: str = ""
    color: str = ""
    side: str = ""
    number: str = ""
    is_pronoun: bool = False

    def matches(self, thing: Thing) -> bool:
        return self.shape in ("", thing.shape) and self.color in ("", thing.color)


def cell(thing: Thing) -> tuple[int, int]:
    """Return column and row of a thing's middle: 0, 1 or 2, split at 0.4 and 0.6."""
    return _third(thing.x), _third(thing.y)


def is_clear(thing: Thing) -> bool:
    """Tell whether a thing's middle keeps away from the lines between the places."""
    return all(
        abs(value - edge) >= MARGIN
        for value in (thing.x, thing.y)
        for edge in (LOW_EDGE, HIGH_EDGE)
    )


def _third(value: float) -> int:
    return 0 if value < LOW_EDGE else 1 if value <= HIGH_EDGE else 2


def place_name(thing: Thing, language: Language) -> str:
    return (_ZH_PLACES if language == "zh" else _EN_PLACES)[cell(thing)]


def noun(shape: str, color: str, language: Language, is_plural: bool = False) -> str:
    """Return the canonical noun phrase, without an article."""
    if language == "zh":
        head = ZH_SHAPES[shape][0] if shape else "图形"
        return f"{ZH_COLORS[color]}色的{head}" if color else head
    head = EN_SHAPES[shape][0] if shape else "shape"
    if is_plural:
        head = EN_PLURALS.get(head, head + "s")
    return f"{color} {head}" if color else head


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _joined(parts: list[str], language: Language) -> str:
    if len(parts) == 1:
        return parts[0]
    if language == "zh":
        return "、".join(parts[:-1]) + "和" + parts[-1]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _in_order(things: Iterable[Thing]) -> list[tuple[str, str, int]]:
    """Return (shape, colour, how many), by colour, then by shape: an order that can be learned."""
    counts = Counter((thing.shape, thing.color) for thing in things)
    pairs = sorted(counts, key=lambda pair: (COLORS.index(pair[1]), SHAPES.index(pair[0])))
    return [(shape, color, counts[shape, color]) for shape, color in pairs]


def listing(things: Iterable[Thing], language: Language) -> str:
    """Return "a red circle, two blue squares and a star", in the canonical order."""
    parts = []
    for shape, color, count in _in_order(things):
        if language == "zh":
            parts.append(f"{_ZH_COUNTS[count]}个{noun(shape, color, 'zh')}")
        elif count == 1:
            parts.append(_with_article(noun(shape, color, "en")))
        else:
            parts.append(f"{_EN_COUNTS[count]} {noun(shape, color, 'en', is_plural=True)}")
    return _joined(parts, language)


def phrases_in_order(
    things: Iterable[Thing], language: Language
) -> tuple[tuple[str, tuple[Thing, ...]], ...]:
    """Return the noun phrases of a `listing` in order, each with the things that it names."""
    things = tuple(things)
    return tuple(
        (
            noun(shape, color, language, is_plural=count > 1),
            tuple(t for t in things if (t.shape, t.color) == (shape, color)),
        )
        for shape, color, count in _in_order(things)
    )


def _shades(scene: Scene, language: Language) -> str:
    if language == "zh":
        return "浅色" if scene.has_light_backdrop else "深色"
    return "light" if scene.has_light_backdrop else "dark"


def answer(scene: Scene, query: Query, language: Language) -> str | None:
    """Return the right answer, or None when the truth is too close to call or has no one answer."""
    if scene.kind == "other":
        return REFUSAL[language]
    if query.topic in _ALIASES:
        if len(scene.things) != 1 and not (query.shape or query.color):
            return None
        query = replace(query, topic=_ALIASES[query.topic], is_pronoun=True)
    if scene.kind == "number":
        return _about_number(scene, query, language)
    return _about_shapes(scene, query, language)


_ALIASES = {"its_color": "color_of", "its_shape": "shape_of", "its_place": "where"}


def _about_number(scene: Scene, query: Query, language: Language) -> str | None:
    zh = language == "zh"
    value, shades = scene.number, _shades(scene, language)
    match query.topic:
        case "what":
            return f"这是数字{value}。" if zh else f"This is the number {value}."
        case "describe":
            if zh:
                return f"图中印着一个数字：{value}。它是{len(value)}位数，背景是{shades}的。"
            digits = "1 digit" if len(value) == 1 else f"{len(value)} digits"
            return (
                f"The picture shows the number {value}. It has {digits} on a {shades} background."
            )
        case "number":
            return f"图中的数字是{value}。" if zh else f"The number is {value}."
        case "is_number":
            if query.number == value:
                return f"是的，图中的数字是{value}。" if zh else f"Yes, the number is {value}."
            return f"不是，图中的数字是{value}。" if zh else f"No, the number is {value}."
        case "is_a_number":
            return f"有，图中有数字{value}。" if zh else f"Yes, there is the number {value}."
        case "digits":
            return (
                f"这是{len(value)}位数。"
                if zh
                else f"It has {len(value)} digit{'s' * (len(value) > 1)}."
            )
        case "number_color" | "color_of" if not query.shape:
            if not scene.number_color:
                return None
            if zh:
                return f"数字是{ZH_COLORS[scene.number_color]}色的。"
            return f"The number is {scene.number_color}."
        case "background":
            return f"背景是{shades}的。" if zh else f"The background is {shades}."
        case "is_it":
            return f"不是，这是数字{value}。" if zh else f"No, this is the number {value}."
        case (
            "count"
            | "count_of"
            | "is_there"
            | "colors"
            | "shapes"
            | "where"
            | "color_of"
            | "shape_of"
        ):
            if query.topic == "is_there" and zh:
                return f"没有，图中只有数字{value}。"
            if query.topic == "is_there":
                return f"No, there is only the number {value}."
            return (
                f"图中没有图形，只有数字{value}。"
                if zh
                else f"There are no shapes, only the number {value}."
            )
    return None


def _about_shapes(scene: Scene, query: Query, language: Language) -> str | None:
    zh = language == "zh"
    total = len(scene.things)
    match query.topic:
        case "what":
            if total == 1:
                return (
                    f"这是{listing(scene.things, 'zh')}。"
                    if zh
                    else f"This is {listing(scene.things, 'en')}."
                )
            return _whole(scene, language)
        case "describe":
            return _description(scene, language)
        case "count":
            if zh:
                return f"图中有{total}个图形。"
            return "There is 1 shape." if total == 1 else f"There are {total} shapes."
        case "colors":
            hues = [c for c in COLORS if any(t.color == c for t in scene.things)]
            if zh:
                return f"图形的颜色有{_joined([ZH_COLORS[c] + '色' for c in hues], 'zh')}。"
            return f"The shapes are {_joined(hues, 'en')}."
        case "shapes":
            return _whole(scene, language)
        case "number":
            return "图中没有数字。" if zh else "There is no number in the picture."
        case "is_number" | "is_a_number" | "digits" | "number_color":
            return "没有，图中没有数字。" if zh else "No, there is no number in the picture."
        case "background":
            shades = _shades(scene, language)
            return f"背景是{shades}的。" if zh else f"The background is {shades}."
        case "is_it":
            return _is_it(scene, query, language)
    found = [thing for thing in scene.things if query.matches(thing)]
    phrase = noun(query.shape, query.color, language)
    phrases = noun(query.shape, query.color, language, is_plural=True)
    match query.topic:
        case "count_of":
            if not found:
                return f"图中没有{phrase}。" if zh else f"There are no {phrases}."
            if zh:
                return f"图中有{len(found)}个{phrase}。"
            return (
                f"There is 1 {phrase}." if len(found) == 1 else f"There are {len(found)} {phrases}."
            )
        case "is_there":
            if found:
                return f"有，图中有{phrase}。" if zh else f"Yes, there is {_with_article(phrase)}."
            return f"没有，图中没有{phrase}。" if zh else f"No, there is no {phrase}."
    if not found:
        return f"图中没有{phrase}。" if zh else f"There is no {phrase} in the picture."
    if query.is_pronoun and len(found) == 1:
        return _about_it(found[0], query.topic, language)
    match query.topic:
        case "color_of":
            hues = [c for c in COLORS if any(t.color == c for t in found)]
            if zh:
                return f"{phrase}是{_joined([ZH_COLORS[c] + '色' for c in hues], 'zh')}的。"
            subject, verb = (phrase, "is") if len(found) == 1 else (phrases, "are")
            return f"The {subject} {verb} {_joined(hues, 'en')}."
        case "shape_of":
            forms = [s for s in SHAPES if any(t.shape == s for t in found)]
            if zh:
                return f"{phrase}是{_joined([ZH_SHAPES[s][0] for s in forms], 'zh')}。"
            names = _joined([_with_article(EN_SHAPES[s][0]) for s in forms], "en")
            if len(found) == 1:
                return f"The {phrase} is {names}."
            if len(forms) == 1:
                return (
                    f"The {phrases} are {EN_PLURALS.get(EN_SHAPES[forms[0]][0], forms[0] + 's')}."
                )
            return f"The {phrases} are {names}."
    if len(found) != 1 or not is_clear(found[0]):
        return None
    place = place_name(found[0], language)
    match query.topic:
        case "where":
            return (
                f"{phrase}在画面的{place}。" if zh else f"The {phrase} is {place} of the picture."
            )
        case "side":
            column, row = cell(found[0])
            right = {
                "left": column == 0, "right": column == 2, "top": row == 0, "bottom": row == 2,
                "middle": (column, row) == (1, 1),
            }[query.side]  # fmt: skip
            if zh:
                return f"{'是的' if right else '不是'}，{phrase}在画面的{place}。"
            return f"{'Yes' if right else 'No'}, the {phrase} is {place} of the picture."
    return None


def _about_it(thing: Thing, topic: str, language: Language) -> str | None:
    zh = language == "zh"
    match topic:
        case "color_of":
            return f"它是{ZH_COLORS[thing.color]}色的。" if zh else f"It is {thing.color}."
        case "shape_of":
            form = noun(thing.shape, "", language)
            return f"它是{form}。" if zh else f"It is {_with_article(form)}."
    if not is_clear(thing):
        return None
    place = place_name(thing, language)
    return f"它在画面的{place}。" if zh else f"It is {place} of the picture."


def _is_it(scene: Scene, query: Query, language: Language) -> str | None:
    if len(scene.things) != 1:
        return None
    it = listing(scene.things, language)
    right = query.matches(scene.things[0])
    if language == "zh":
        return f"{'是的' if right else '不是'}，这是{it}。"
    return f"{'Yes' if right else 'No'}, this is {it}."


def _whole(scene: Scene, language: Language) -> str:
    total, items = len(scene.things), listing(scene.things, language)
    if language == "zh":
        return f"图中有{total}个图形：{items}。"
    return f"There is 1 shape: {items}." if total == 1 else f"There are {total} shapes: {items}."


def _description(scene: Scene, language: Language) -> str:
    """Two sentences: what there is, then where it is (or the background, if some are alike)."""
    items, shades = listing(scene.things, language), _shades(scene, language)
    total, groups = len(scene.things), _in_order(scene.things)
    if total == 1:
        place = place_name(scene.things[0], language)
        if language == "zh":
            return f"图中有{items}，它在画面的{place}。背景是{shades}的，没有别的图形。"
        first = f"The picture shows {items} {place}."
        return f"{first} The background is {shades} and there is nothing else."
    if language == "zh":
        first = f"图中有{total}个图形：{items}。"
    else:
        first = f"The picture shows {total} shapes: {items}."
    if len(groups) < total:
        return first + (
            f"背景是{shades}的。" if language == "zh" else f" The background is {shades}."
        )
    parts = []
    for shape, color, _ in groups:
        thing = next(t for t in scene.things if (t.shape, t.color) == (shape, color))
        place, phrase = place_name(thing, language), noun(shape, color, language)
        parts.append(f"{phrase}在{place}" if language == "zh" else f"the {phrase} is {place}")
    if language == "zh":
        return first + "，".join(parts) + "。"
    second = _joined(parts, "en")
    return f"{first} {second[:1].upper()}{second[1:]}."

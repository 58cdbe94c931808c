# ruff: noqa: E501 - lists of sentences
"""Dialogs about a picture, or about none: questions in many wordings with canonical answers."""

from dataclasses import dataclass
from random import Random

from training.answers import SIDES, Query, answer, noun, phrases_in_order
from training.phrases import HELD_OUT, Language, ask, mention, plural
from training.world import COLORS, SHAPES, Scene, Thing

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are a vision assistant that answers questions about images.",
    "Answer the user's question about the image.",
    "Be concise.",
    "你是一个有用的助手。",
    "你是一个乐于助人的助手，请简短回答。",
    "你是一个看图回答问题的助手。",
    "请根据图片回答用户的问题。",
    "你是一个智能助手。",
)

_SELF = {
    "zh": "我是 sightline 自带的小型演示模型，用合成的图形图片训练而成。我能回答图中图形、颜色、数量、位置和数字的问题。",
    "en": (
        "I am sightline's small bundled demo model, trained on synthetic pictures of shapes. I can answer "
        "questions about the shapes, colours, counts, positions and numbers in a picture."
    ),
}
_NO_CLAIM = {
    "zh": "不是，我是 sightline 自带的小型演示模型，用合成的图形图片训练而成。",
    "en": "No, I am sightline's small bundled demo model, trained on synthetic pictures of shapes.",
}
_NO_PICTURE = {
    "zh": "请先给我一张图片，我才能回答。",
    "en": "Please send me a picture first, then I can answer.",
}
_BEYOND = {
    "zh": "抱歉，我只会回答关于图中图形、颜色、数量、位置和数字的问题。",
    "en": "Sorry, I can only answer questions about the shapes, colours, counts, positions and numbers in a picture.",
}
# (answer, questions); each question is used as it stands, in several cases and punctuations.
_SMALL_TALK: dict[Language, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "zh": (
        (
            "你好！给我一张图片，我可以回答图中图形、颜色、数量、位置和数字的问题。",
            (
                "你好",
                "您好",
                "嗨",
                "你好啊",
                "哈喽",
                "早上好",
                "晚上好",
                "在吗",
                "下午好",
                "你好呀",
                "大家好",
                "hi，你好",
            ),
        ),
        (
            _SELF["zh"],
            (
                "你是谁",
                "你是什么模型",
                "介绍一下你自己",
                "你叫什么名字",
                "你能做什么",
                "你会什么",
                "你有什么功能",
                "你是什么",
                "你能干什么",
                "你可以做什么",
                "你是哪个模型",
                "请介绍一下自己",
                "你是人工智能吗",
                "怎么用你",
                "帮助",
                "你能帮我做什么",
                "你能看图吗",
                "你会看图吗",
                "你的名字是什么",
                "自我介绍一下",
                "你能识别什么",
                "你是怎么训练的",
            ),
        ),
        (
            _NO_CLAIM["zh"],
            (
                "你是GLM吗",
                "你是智谱的模型吗",
                "你是ChatGPT吗",
                "你是GPT-4吗",
                "你是ChatGLM吗",
                "你是智谱清言吗",
                "你是GLM-4V吗",
                "你是不是GPT",
                "你是OpenAI的吗",
                "你是通义千问吗",
                "你是Qwen吗",
                "你是GLM-4V-9B吗",
                "你是人吗",
                "你是真人吗",
            ),
        ),
        ("不客气！", ("谢谢", "谢谢你", "多谢", "非常感谢", "感谢", "好的，谢谢", "辛苦了")),
        ("再见！", ("再见", "拜拜", "回头见", "下次见", "我走了")),
        ("好的。", ("好的", "好", "嗯", "知道了", "明白了", "行", "测试", "测试一下", "收到")),
    ),
    "en": (
        (
            "Hello! Send me a picture and I can answer questions about its shapes, colours, counts, positions and numbers.",
            (
                "Hello",
                "Hi",
                "Hey",
                "Hi there",
                "Good morning",
                "Good evening",
                "Hello there",
                "Hey there",
                "Greetings",
                "How are you",
                "Good afternoon",
                "What's up",
                "How do you do",
                "Hello, how are you",
            ),
        ),
        (
            _SELF["en"],
            (
                "Who are you",
                "What are you",
                "What model are you",
                "Introduce yourself",
                "What is your name",
                "What can you do",
                "Tell me about yourself",
                "What are you able to do",
                "Which model is this",
                "How can you help me",
                "Help",
                "What do you know",
                "Can you see pictures",
                "Are you an AI",
                "What model am I talking to",
                "How were you trained",
                "What can I ask you",
                "What's your name",
                "Can you look at images",
                "How do I use you",
                "What is sightline",
                "What kind of model are you",
            ),
        ),
        (
            _NO_CLAIM["en"],
            (
                "Are you GLM",
                "Are you GPT-4",
                "Are you ChatGPT",
                "Are you GLM-4V",
                "Are you made by Zhipu",
                "Are you ChatGLM",
                "Are you Qwen",
                "Are you made by OpenAI",
                "Are you Claude",
                "Are you a Zhipu model",
                "Are you GLM-4V-9B",
                "Are you human",
                "Are you a real person",
            ),
        ),
        (
            "You are welcome!",
            (
                "Thanks",
                "Thank you",
                "Thanks a lot",
                "Thank you very much",
                "Thx",
                "Great, thanks",
                "Cheers",
            ),
        ),
        ("Goodbye!", ("Bye", "Goodbye", "See you", "See you later", "Good night", "Bye bye")),
        (
            "OK.",
            (
                "OK",
                "Okay",
                "Test",
                "Testing",
                "Fine",
                "Good",
                "I see",
                "Say OK",
                "Got it",
                "Yes",
                "Cool",
                "Nice",
                "test message",
            ),
        ),
        ("pong", ("ping", "Ping", "ping", "PING")),
    ),
}
_STRANGE: dict[Language, tuple[str, ...]] = {
    "zh": (
        "今天天气怎么样", "讲个笑话", "1+1等于几", "中国的首都是哪里", "写一首诗", "写一段代码", "现在几点了", "帮我翻译一下", "推荐一部电影",
        "这是谁画的", "这张图是什么时候拍的", "这张照片是在哪里拍的", "图片里的人是谁", "他几岁了", "这幅画值多少钱", "这是什么牌子", "图里的人在做什么",
        "股票会涨吗", "帮我写一封邮件", "什么是人工智能", "唱首歌", "给我讲个故事", "图片有多大", "文件是什么格式的", "你喜欢什么颜色", "为什么天空是蓝色的",
        "请用法语回答", "写个Python函数", "怎么做红烧肉", "这个人开心吗", "这只猫多大了", "图里的车是什么型号", "这道题怎么解", "解释一下量子力学",
        "明天会下雨吗", "世界上最高的山是什么", "你吃了吗", "我该怎么办", "把图片变成黑白的", "画一只猫", "生成一张图片",
    ),
    "en": (
        "What is the weather today", "Tell me a joke", "What is 1+1", "What is the capital of France", "Write a poem", "Write some code", "What time is it",
        "Translate this to French", "Recommend a movie", "Who painted this", "When was this photo taken", "Where was this picture taken", "Who is the person in the picture",
        "How old is he", "How much is it worth", "What brand is this", "What is the person doing", "Will the stock rise", "Write an email for me", "What is artificial intelligence",
        "Sing a song", "Tell me a story", "How big is the file", "What format is the image", "What is your favourite colour", "Why is the sky blue", "Answer in German",
        "Write a Python function", "How do I cook pasta", "Is this person happy", "How old is the cat", "What model is the car", "Solve this problem", "Explain quantum mechanics",
        "Will it rain tomorrow", "What is the highest mountain", "Draw a cat", "Generate an image", "Make the picture black and white", "What is the meaning of life", "Who won the game",
        "List three fruits", "Count from one to ten", "What day is it", "Summarise the news", "Give me a recipe",
    ),
}  # fmt: skip
_SHAPE_TOPICS = {
    "what": 12, "describe": 6, "count": 13, "count_of": 8, "color_of": 12, "shape_of": 11, "is_there": 15, "where": 14,
    "side": 3, "is_it": 4, "colors": 3, "shapes": 3, "its_color": 4, "its_shape": 4, "its_place": 4, "number": 2,
    "is_a_number": 1.5, "background": 1.5,
}  # fmt: skip
_NUMBER_TOPICS = {
    "number": 30, "what": 16, "describe": 8, "is_number": 6, "is_a_number": 4, "digits": 4, "number_color": 6,
    "count": 4, "is_there": 5, "color_of": 1, "shape_of": 1, "where": 1, "background": 1.5, "shapes": 1, "colors": 1, "is_it": 1.5,
    "count_of": 1,
}  # fmt: skip
_ABOUT_ONE = ("color_of", "shape_of", "where")
_SINGLE_ONLY = ("its_color", "its_shape", "its_place", "is_it")


@dataclass(frozen=True, slots=True)
class Turn:
    """`mention` are the words of the question for the one thing, `focus`, that it is about.

    `number` are the digits of the picture that the question is about. `things` are all that the
    mention fits, None if the question is not about some of them; `listed` are the phrases of the
    answer that name things, in order, with what they name.
    """

    question: str
    answer: str
    topic: str
    mention: str = ""
    focus: Thing | None = None
    number: str = ""
    things: tuple[Thing, ...] | None = None
    listed: tuple[tuple[str, tuple[Thing, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Dialog:
    """`image_turn` is the turn whose message carries the picture; None without a picture."""

    turns: tuple[Turn, ...]
    image_turn: int | None = 0
    system: str = ""


def draw_query(rng: Random, scene: Scene, topics: dict[str, float] | None = None) -> Query:
    """Return a question that can be asked about `scene`; half of the yes/no ones have a yes."""
    if topics is None:
        topics = dict(_NUMBER_TOPICS if scene.kind == "number" else _SHAPE_TOPICS)
        if scene.kind == "shapes" and len(scene.things) != 1:
            for name in _SINGLE_ONLY:
                del topics[name]
        if scene.kind == "other":
            topics["number"] *= (
                8  # or "which number is this" is answered with one, whatever is shown
            )
        if scene.kind == "shapes" and len(scene.things) == 1:
            topics["what"] *= 1.6
            topics["count"] *= 0.6
    topic = rng.choices(list(topics), list(topics.values()))[0]
    thing = rng.choice(scene.things) if scene.things else None
    if topic in _ABOUT_ONE and rng.random() < 0.6:
        # People ask so about the only one of its kind; many answers in the plural teach to see double.
        key = "color" if topic == "shape_of" else "shape"
        thing = rng.choice(only_ones(scene, key) or [thing])
    match topic:
        case "is_number":
            return Query(topic, number=_guess(rng, scene.number))
        case "is_there" | "count_of" | "is_it" | "color_of" | "shape_of" | "where" | "side":
            side = rng.choice(list(SIDES)) if topic == "side" else ""
            shape, color = rng.choice(SHAPES), rng.choice(COLORS)
            present = (
                0.5 if topic in ("is_there", "is_it") else 0.72 if topic == "count_of" else 0.93
            )
            if thing and rng.random() < present:
                shape, color = thing.shape, thing.color
            elif thing and topic in ("is_there", "is_it") and rng.random() < 0.45:
                # The nearest misses: the right shape in a wrong colour, and the reverse.
                shape, color = (thing.shape, color) if rng.random() < 0.5 else (shape, thing.color)
            pick = rng.random()
            if topic == "color_of":
                return Query(topic, shape=shape)
            if topic == "shape_of":
                return Query(topic, color=color)
            if topic == "where" and pick < 0.4:
                return Query(topic, shape=shape, color=color)
            if pick < 0.45:
                return Query(topic, shape=shape, side=side)
            if pick < 0.7:
                return Query(topic, color=color, side=side)
            return Query(topic, shape=shape, color=color, side=side)
    return Query(topic)


def only_ones(scene: Scene, key: str) -> list[Thing]:
    """Return the things whose shape (or colour: `key`) no other thing of the scene has."""
    values = [getattr(thing, key) for thing in scene.things]
    return [thing for thing in scene.things if values.count(getattr(thing, key)) == 1]


def _guess(rng: Random, number: str) -> str:
    if not number or rng.random() < 0.5:
        return number or str(rng.randrange(1000))
    digits = list(number)
    digits[rng.randrange(len(digits))] = rng.choice("123456789")
    return "".join(digits)


def word(rng: Random, query: Query, language: Language, held_out: bool = False) -> str:
    """Return `query` as a question of a person."""
    return _word(rng, query, language, held_out)[0]


def _word(rng: Random, query: Query, language: Language, held_out: bool) -> tuple[str, str]:
    """Return the question, and the phrase in it that names what it is about ("" if none does)."""
    slots = {}
    if query.shape or query.color:
        is_canonical = held_out or rng.random() < 0.55
        phrase = mention(rng, language, query.shape, query.color, is_canonical)
        slots["x"] = phrase or noun(query.shape, query.color, language)
        slots["xs"] = plural(slots["x"]) if language == "en" else slots["x"]
    if query.color:
        hue = mention(rng, "zh", "circle", query.color, True)[0]
        slots["c"] = hue if language == "zh" else query.color
    if query.side:
        slots["s"] = SIDES[query.side][language]
    slots["n"] = query.number
    text = ask(rng, language, query.topic, slots, held_out)
    for phrase in (slots.get("xs", ""), slots.get("x", ""), slots.get("c", "")):
        if phrase and phrase.lower() in text.lower():
            return text, phrase
    return text, ""


def picture_turn(
    rng: Random,
    scene: Scene,
    language: Language,
    query: Query | None = None,
    held_out: bool = False,
) -> tuple[Turn, Query]:
    """Return one question about `scene` that has one right answer."""
    for _ in range(50):
        asked = query or draw_query(rng, scene)
        text = answer(scene, asked, language)
        if text is not None and not (held_out and asked.topic not in HELD_OUT):
            question, phrase = _word(rng, asked, language, held_out)
            turn = Turn(
                question,
                text,
                asked.topic,
                phrase,
                _focus(scene, asked, bool(phrase)),
                scene.number,
                _things(scene, asked),
                _listed(scene, asked, language),
            )
            return turn, asked
        query = None
    fallback = Query("what")
    text = answer(scene, fallback, language) or ""
    return Turn(word(rng, fallback, language, held_out), text, "what"), fallback


def _focus(scene: Scene, query: Query, is_named: bool) -> Thing | None:
    """Return the one thing that a question is about, if there is just one."""
    if query.shape or query.color:
        found = [thing for thing in scene.things if query.matches(thing)]
        return found[0] if len(found) == 1 and (is_named or len(scene.things) == 1) else None
    return scene.things[0] if len(scene.things) == 1 else None


def _things(scene: Scene, query: Query) -> tuple[Thing, ...] | None:
    if scene.kind == "shapes" and (query.shape or query.color):
        return tuple(thing for thing in scene.things if query.matches(thing))
    return scene.things if len(scene.things) == 1 else None


def _listed(
    scene: Scene, query: Query, language: Language
) -> tuple[tuple[str, tuple[Thing, ...]], ...]:
    if scene.kind != "shapes" or query.topic not in ("what", "describe", "shapes"):
        return ()
    return phrases_in_order(scene.things, language)


def _follow_up(rng: Random, scene: Scene, last: Query, language: Language) -> Query | None:
    """Return a question that leans on the one before it ("and where is it?"), or None."""
    found = [thing for thing in scene.things if last.matches(thing)]
    one = found[0] if len(found) == 1 and (last.shape or last.color) else None
    if len(scene.things) == 1:
        one = scene.things[0]
    if one is None:
        return None
    topic = rng.choice(("its_color", "its_shape", "its_place", "its_place"))
    if topic == "its_color" and not last.shape and len(scene.things) > 1:
        return None
    shape, color = (last.shape, last.color) if len(scene.things) > 1 else ("", "")
    if topic == "its_color":
        color = ""
    if topic == "its_shape":
        shape = ""
    if len(scene.things) > 1 and not (shape or color):
        return None
    if sum(Query(topic, shape, color).matches(thing) for thing in scene.things) != 1:
        return None
    return Query(topic, shape, color)


def picture_dialog(rng: Random, scene: Scene, num_turns: int) -> Dialog:
    """Return `num_turns` turns about one picture; now and then other talk is mixed in."""
    language: Language = "zh" if rng.random() < 0.5 else "en"
    turns: list[Turn] = []
    image_turn = 0
    if num_turns > 1 and rng.random() < 0.08:
        turns.append(small_talk(rng, language))
        image_turn = 1
    query: Query | None = None
    while len(turns) < num_turns:
        pick = rng.random()
        if pick < 0.02:
            turns.append(_stray(rng, language, scene))
            continue
        follow = _follow_up(rng, scene, query, language) if query and pick < 0.45 else None
        if turns and rng.random() < 0.05:
            language = "en" if language == "zh" else "zh"
        turn, query = picture_turn(rng, scene, language, follow)
        turns.append(turn)
    return Dialog(tuple(turns), image_turn, _system(rng))


def small_talk(rng: Random, language: Language) -> Turn:
    """Return a greeting, a question about the model itself, thanks, and the like."""
    weights = (3, 5, 2, 1, 1, 1.5, 1.5)[: len(_SMALL_TALK[language])]
    text, questions = rng.choices(_SMALL_TALK[language], weights)[0]
    return Turn(_dress(rng, rng.choice(questions), language), text, "talk")


def _stray(rng: Random, language: Language, scene: Scene | None) -> Turn:
    """Return a question that the model has no answer for, or small talk beside a picture."""
    if rng.random() < 0.25:
        return small_talk(rng, language)
    text = _BEYOND[language]
    return Turn(_dress(rng, rng.choice(_STRANGE[language]), language), text, "beyond")


def text_dialog(rng: Random) -> Dialog:
    """Return a dialog without a picture: talk, strange questions, questions about a picture."""
    language: Language = "zh" if rng.random() < 0.5 else "en"
    turns = []
    for _ in range(rng.choices((1, 2, 3), (0.75, 0.18, 0.07))[0]):
        pick = rng.random()
        if pick < 0.5:
            turns.append(small_talk(rng, language))
        elif pick < 0.68:
            turns.append(_stray(rng, language, None))
        else:
            topics = {t: w for t, w in (_SHAPE_TOPICS | {"number": 8}).items() if t != "side"}
            query = draw_query(rng, Scene("shapes"), topics)
            turns.append(Turn(word(rng, query, language), _NO_PICTURE[language], "no_picture"))
    return Dialog(tuple(turns), None, _system(rng))


def _system(rng: Random) -> str:
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.12 else ""


def _dress(rng: Random, text: str, language: Language) -> str:
    asks = ("What", "Who", "How", "Are", "Can", "Why", "Which", "When", "Where", "Will", "Is")
    if language == "en":
        end = (
            rng.choice(("?", "?", "")) if text.startswith(asks) else rng.choice((".", "!", "", ""))
        )
        text += end
        pick = rng.random()
        return text.lower() if pick < 0.2 else text.upper() if pick < 0.23 else text
    return text + rng.choice(
        ("？", "?", "", "。", "！", "") if len(text) > 3 else ("！", "", "。", "", "!")
    )

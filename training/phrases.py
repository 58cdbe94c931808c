# ruff: noqa: E501 - one grammar a line reads better than wrapped ones
"""Ways to ask, in Chinese and English, as small grammars.

`(a|b|)` stands for one of its alternatives; `{x}` for the thing asked about. Templates under
`HELD_OUT` are never trained on: evaluation asks with them.
"""

from random import Random
from typing import Literal

Language = Literal["zh", "en"]

ZH_SHAPES = {
    "circle": ("圆形", "圆形", "圆", "圆圈"),
    "square": ("正方形", "正方形", "方块", "方形"),
    "triangle": ("三角形", "三角形", "三角"),
    "star": ("星形", "星形", "五角星", "星星"),
    "diamond": ("菱形", "菱形", "菱形"),
    "cross": ("十字形", "十字形", "十字", "十字架"),
}
EN_SHAPES = {
    "circle": ("circle", "circle", "circle", "disc", "round shape"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star", "star", "star shape"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "cross": ("cross", "cross", "plus sign", "plus"),
}
EN_PLURALS = {"box": "boxes", "cross": "crosses", "plus": "pluses", "rhombus": "rhombuses"}
ZH_COLORS = {
    "red": "红", "green": "绿", "blue": "蓝", "yellow": "黄",
    "orange": "橙", "purple": "紫", "black": "黑", "white": "白",
}  # fmt: skip

_ZH_IN = "(图中|图里|图片中|图片里|这张图里|这张图片里|这幅图中|画面中|画面里|这里|图上|照片里|)"
_EN_IN = "( in the picture| in this picture| in the image| in this image| here| in the photo| on the picture||)"

# topic -> language -> templates
TRAINED: dict[str, dict[Language, tuple[str, ...]]] = {
    "what": {
        "zh": (
            "这是什么", "这是什么", "这是什么", "这是啥", "这(张图|张图片|幅图)(里|中|上|)(是|有)(什么|啥|什么东西)",
            "(图|图片|画面|照片)(里|中|上)(是|有|画的是|画着)(什么|啥|什么东西|哪些东西)",
            "你看到了什么", "你(看到|看见)(了|)(什么|啥|哪些东西)", "(看看|看一下|告诉我|说说|识别一下)这(是什么|是啥|张图里有什么|个)",
            "(这个|那|它|这东西)是什么(东西|)", "这(张图|图片)画(的|)(是|了)(什么|啥)", "图中(的|)(物体|东西|内容)是什么",
            "能(看出|告诉我)这是什么吗", "(识别|辨认)(一下|)(这张图|图片|图中的内容)", "有什么",
            "你自己看(看|一下)(图里|)有什么",
        ),
        "en": (
            "What is this", "What is this", "What's this", "What is (it|that)", "What is (in|on|shown in) (the|this) (picture|image|photo)",
            "What do you see( here| in the picture| in this image|)", "What('s| is) (here|there)", "What can you see( here| in this picture| in the image|)",
            "Tell me what this is", "(Can|Could) you tell me what this is", "What (does|do) (this|the) (picture|image) show",
            "What am I looking at", "(Identify|Recognise|Recognize) (this|the picture|the image|what is shown)", "What (things|objects|shapes) (are there|do you see|are shown)",
            "What shapes are( there|) in (the|this) (picture|image)", "Tell me what you see", "What's in (the|this) (picture|image)",
        ),
    },
    "describe": {
        "zh": (
            "描述(这张图片|这张图|这幅图|图片|图中的内容|画面|这张照片|图像|)", "描述一下(这张图片|这张图|画面|图片|你看到的|)", "(请|)(详细|简单|)(描述|介绍|说明)(一下|)(这张图|图片|画面|内容|)",
            "(说说|讲讲|介绍一下)(这张图|图片内容|这幅画|画面)", "(用两句话|用几句话|)描述(一下|)(这张图|图片|画面)", "图(片|)的内容是什么，请描述",
            "给这张图写(一段|两句)描述", "详细说说你看到了什么",
        ),
        "en": (
            "Describe (the|this) (picture|image|photo|scene)", "Describe (it|this|what you see)", "(Give|Write) (me |)a (short |brief |detailed |)description( of (the|this) (picture|image)|)",
            "(Can|Could) you describe (this|the) (picture|image)", "(Describe|Explain) what (you see|is in the picture|is shown)", "Describe (the|this) (picture|image) in (two sentences|a few words|detail)",
            "Tell me about (this|the) (picture|image)", "Describe", "Describe the (shapes|contents) of (this|the) (picture|image)",
        ),
    },
    "count": {
        "zh": (
            _ZH_IN + "(一共|总共|共|)有(几|多少)个(图形|形状|物体|东西|)", "(有|共有)(几|多少)个(图形|形状|物体|)", "数(一数|一下|数)" + _ZH_IN + "(有(几|多少)个|)(图形|形状|东西)",
            "(图形|形状|物体)(的数量|的个数|一共)(是|有)(多少|几个)", "(图中|图片里|画面里)(图形|形状|物体)的(数量|个数)", "几个(图形|形状)", "你(看到|能看到)(几|多少)个(图形|形状|物体)",
            "(总共|一共)(几|多少)个", _ZH_IN + "(图形|形状|物体)有(几|多少)个",
        ),
        "en": (
            "How many (shapes|objects|things|figures|items)( are there|)" + _EN_IN, "How many (shapes|objects|things|figures)( do you see| can you see| can you count|)" + _EN_IN,
            "Count the (shapes|objects|things|figures)" + _EN_IN, "What is the (number|total number) of (shapes|objects|things)" + _EN_IN, "How many are there",
            "(Can you|Please) count the (shapes|objects|things)", "How many( different|) shapes does (the|this) (picture|image) (have|contain|show)", "Number of (shapes|objects)",
            "How many (shapes|objects) in total",
        ),
    },
    "count_of": {
        "zh": (
            _ZH_IN + "(一共|总共|)有(几|多少)个{x}", "(几|多少)个{x}", "{x}有(几|多少)个", "数(一数|一下)" + _ZH_IN + "{x}(有几个|的数量|)", _ZH_IN + "{x}的(数量|个数)是多少",
            "你(看到|能看到)(几|多少)个{x}",
        ),
        "en": (
            "How many {xs}( are there| do you see| can you see|)" + _EN_IN, "Count the {xs}" + _EN_IN, "What is the number of {xs}", "How many {xs} does (the|this) (picture|image) (have|contain|show)",
            "How many of the (shapes|objects) are {xs}", "(Can you|Please) count the {xs}",
        ),
    },
    "color_of": {
        "zh": (
            "{x}是什么颜色(的|)", _ZH_IN + "(的|){x}是什么颜色(的|)", "{x}(的颜色是什么|是啥颜色|什么颜色|是哪种颜色|的颜色)", "(告诉我|说说|)" + _ZH_IN + "{x}的颜色(是什么|)",
            "(这个|那个){x}(是|)什么颜色", "什么颜色的{x}", "{x}是(红色还是蓝色|哪个颜色)",
        ),
        "en": (
            "What (color|colour) is the {x}" + _EN_IN, "What is the (color|colour) of the {x}" + _EN_IN, "Which (color|colour) (is|does) the {x}( have|)", "(Tell me|Name) the (color|colour) of the {x}",
            "The {x} is what (color|colour)", "What (color|colour) does the {x} have", "What('s| is) the {x}'s (color|colour)", "(Can|Could) you tell me what (color|colour) the {x} is", "(Color|Colour) of the {x}",
            "What (color|colour) are the {xs}",
        ),
    },
    "shape_of": {
        "zh": (
            "{x}(的|)是什么形状(的|)", "{x}是什么(图形|形状)", _ZH_IN + "(的|){x}是什么(形状|图形)", "{x}的形状是(什么|啥)", "{x}是(什么|啥|哪种图形|哪种形状)", "什么(东西|形状|图形)是{c}色的",
            "(哪个|哪种)(图形|形状)是{c}色的",
        ),
        "en": (
            "What shape is the {x}" + _EN_IN, "What is the shape of the {x}" + _EN_IN, "What is the {x}", "Which shape is {c}", "What('s| is) {c}" + _EN_IN, "(Tell me|Name) the shape of the {x}",
            "What kind of shape is the {x}", "The {x} (has|is) what shape", "Which (object|figure) is {c}", "What shape does the {x} have",
        ),
    },
    "is_there": {
        "zh": (
            _ZH_IN + "有{x}吗", _ZH_IN + "有没有{x}", "有(没有|){x}吗", _ZH_IN + "(是否有|是不是有|存在){x}(吗|)", "(你|)(能|)(看到|看得到|找到){x}(了|)吗", "{x}(在图中吗|有吗|有没有|存在吗|出现了吗)", _ZH_IN + "有一个{x}吗",
        ),
        "en": (
            "Is there (a|any) {x}" + _EN_IN, "Is there (a|any) {x}" + _EN_IN, "Are there any {xs}" + _EN_IN, "(Do|Can) you see (a|any) {x}" + _EN_IN, "Does (the|this) (picture|image) (contain|have|show) (a|any) {x}",
            "Is (a|any) {x} (present|visible|shown)" + _EN_IN, "Any {xs}" + _EN_IN, "Can you find a {x}" + _EN_IN,
        ),
    },
    "is_it": {
        "zh": ("这是{x}吗", "这是不是{x}", "(它|这个)是{x}吗", "这(个图形|个形状|)是{x}(对吗|对不对|吗)", "图中的是{x}吗", "图中(的图形|)是不是{x}"),
        "en": ("Is (this|it|that) a {x}", "Is the (shape|object|thing)( in the picture|) a {x}", "(This|It) is a {x}, (right|isn't it|correct)", "Does (this|the picture) show a {x}", "Is what you see a {x}"),
    },
    "where": {
        "zh": (
            "{x}在(哪里|哪儿|哪|什么位置|什么地方|哪个位置|图的哪里)", _ZH_IN + "(的|){x}在(哪里|哪儿|什么位置|哪边)", "{x}的位置(是|在|)(哪里|什么|)", "{x}位于(哪里|什么位置|图中哪里)", "(找|指)出{x}(的位置|在哪里|)",
            "(告诉我|说说){x}(的位置|在哪里)", "{x}在(画面|图|图片)的(哪里|哪个位置|什么位置|哪一边|哪边)", "哪里有{x}",
        ),
        "en": (
            "Where is the {x}" + _EN_IN, "Where is the {x}" + _EN_IN, "Where('s| is) the {x} (located|placed)" + _EN_IN, "What is the (position|location|place) of the {x}" + _EN_IN, "Where (can I find|do you see|can you see) the {x}" + _EN_IN,
            "(Locate|Find) the {x}" + _EN_IN, "In (which|what) part of the (picture|image) is the {x}", "(Tell me|Show me) where the {x} is", "On (which|what) side is the {x}", "At (which|what) position is the {x}",
        ),
    },
    "number": {
        "zh": (
            "(这|图中|图里|图片上|图片里|画面中|上面)(是|有|写着|印着|显示)(什么|哪个|啥)(数字|数)", "(图中|图里|图片上|)(的|)(数字|数)是(什么|多少|几|哪个)", "(读|念|认)(一下|出|)(图中的|图里的|这个|)(数字|数)", "这个(数字|数)是(多少|几|什么)", "是(什么|哪个|多少)(数字|数)",
            "(上面|图上|图中)(写|印)(的是|了|着)(什么|多少|什么数字)", "(什么|哪个)数字", "这是(数字|)几", "数字(是|)多少", "写的是几",
        ),
        "en": (
            "What (number|numeral) is (this|it|that|shown|there|printed)" + _EN_IN, "What (number|numeral) is" + _EN_IN, "What is the number" + _EN_IN, "(Read|Tell me) the number" + _EN_IN, "Which number (is this|is it|is shown|do you see|is printed)" + _EN_IN,
            "What number (do|can) you (see|read)" + _EN_IN, "What (does it say|is written|is printed)" + _EN_IN, "What('s| is) the (number|value)" + _EN_IN, "(Can|Could) you read (the|this) number", "What number", "What digits (are shown|do you see)",
            "What number does (the|this) (picture|image) show",
        ),
    },
    "is_number": {
        "zh": ("这是{n}吗", "(图中|图里|)(的|)数字是{n}吗", "是不是{n}", "这个数(字|)是不是{n}", "写的是{n}吗"),
        "en": ("Is (this|it|the number) {n}", "Is (this|that|it) the number {n}", "Does it say {n}", "Is the number" + _EN_IN + " {n}", "Do you see the number {n}"),
    },
    "is_a_number": {
        "zh": (_ZH_IN + "有数字吗", _ZH_IN + "有没有数字", "(这|图中|图里)是(不是|)(一个|)数字(吗|)", "能看到数字吗"),
        "en": ("Is there (a|any) number" + _EN_IN, "(Is|Does) (this|it|the picture) (a|show a|contain a) number", "Do you see (a|any) number" + _EN_IN, "Are there any (numbers|digits)" + _EN_IN),
    },
    "digits": {
        "zh": ("(这|图中|)(个|的|)(数字|数)(有|是)几位(数|)", "(有|一共有)几位数字", "是几位数"),
        "en": ("How many digits (does it have|does the number have|are there)", "How many digits" + _EN_IN, "Count the digits"),
    },
    "number_color": {
        "zh": ("(这个|图中的|)(数字|数)是什么颜色(的|)", "(数字|数)的颜色(是什么|)"),
        "en": ("What (color|colour) is the number" + _EN_IN, "What is the (color|colour) of the number", "Which (color|colour) (is|has) the number"),
    },
    "colors": {
        "zh": (_ZH_IN + "(都|)有(哪些|什么|哪几种|几种)颜色", "(图形|它们|这些图形|形状)(都|)(是|有)(哪些|什么)颜色(的|)", "列出(所有|)(图形的|)颜色", "出现了(哪些|什么)颜色"),
        "en": ("(What|Which) (colors|colours) (are there|do you see|are used|are the shapes|are present)" + _EN_IN, "List the (colors|colours)" + _EN_IN, "What are the (colors|colours) of the (shapes|objects)", "Name (all |)the (colors|colours)"),
    },
    "shapes": {
        "zh": (_ZH_IN + "(都|)有(哪些|什么|哪几种)(形状|图形)", "列出(所有|图中|)(的|)(形状|图形)", "(都是|是)(哪些|什么)(图形|形状)", "出现了(哪些|什么)(形状|图形)"),
        "en": ("(What|Which) shapes (are there|do you see|are present|are shown|can you see)" + _EN_IN, "List (all |)the (shapes|objects)" + _EN_IN, "Name (all |)the shapes" + _EN_IN, "What kinds of shapes (are there|do you see)"),
    },
    "its_color": {
        "zh": ("它(是|)什么颜色(的|)", "(它的|)颜色呢", "(那|)它的颜色是什么", "这(个图形|)是什么颜色(的|)", "什么颜色"),
        "en": ("What (color|colour) is (it|this|that)", "(And|) (its|the) (color|colour)", "What is its (color|colour)", "Which (color|colour) is it", "What (color|colour)"),
    },
    "its_shape": {
        "zh": ("它(是|)什么形状(的|)", "(它的|)形状呢", "(那|)它的形状是什么", "这(个|)是什么(形状|图形)", "什么形状"),
        "en": ("What shape is (it|this|that)", "(And|) (its|the) shape", "What is its shape", "Which shape is it", "What shape"),
    },
    "its_place": {
        "zh": ("它在(哪里|哪儿|什么位置|图中哪里)", "(它的|)位置呢", "(那|)它在哪(边|个位置|)", "在哪里", "在什么位置"),
        "en": ("Where is it" + _EN_IN, "(And |)where is it( located|)", "What is its (position|location)", "Where exactly", "And (its|the) position"),
    },
    "side": {
        "zh": ("{x}在{s}吗", "{x}是不是在{s}", "{x}(是|)在(图|画面|图片)的{s}吗"),
        "en": ("Is the {x} {s}" + _EN_IN, "Is the {x} located {s}"),
    },
    "background": {
        "zh": ("背景是(什么样的|深色还是浅色|浅色还是深色|亮的还是暗的|深色的吗|浅色的吗)", "背景(怎么样|呢)"),
        "en": ("Is the background (light or dark|dark or light|bright or dark)", "What (is|about) the background( like|)", "(Describe|How is) the background"),
    },
}  # fmt: skip

# More of the questions that matter most, so that unfamiliar wordings fall between familiar ones.
_MORE: dict[str, dict[Language, tuple[str, ...]]] = {
    "what": {
        "zh": (
            "图(上|里)画了什么",
            "(能|可以)(帮我|)(认|看)(一下|出)(这是什么|图里是什么)(吗|)",
            "你(能|可以)(告诉我|说说)(图里|这|画里)(是|有)什么(吗|)",
            "图片(展示|显示)(了|的是)(什么|哪些内容)",
            "上面(画的|)是什么",
            "请(说出|回答|指出)(图中|这里)(是|有)(什么|啥)",
            "画的(是|)(什么|啥)",
            "这(到底|究竟)是(什么|啥)",
            "(帮我|)(认|看)(一|)(认|看)(这|图里)(是|有)(啥|些什么)",
            "图里(的东西|的物体|的内容|)是(啥|什么)",
        ),
        "en": (
            "What object is (this|shown|here)",
            "What (has been|was) drawn( here| there|)",
            "What is (displayed|depicted|pictured|drawn|visible)( here| in this picture|)",
            "Say what (this is|you see)",
            "Which object (is this|do you see|is displayed)",
            "Would you (tell me|identify) what (this is|you see)",
            "So what is (this|it)",
            "What do we have( here|)",
            "What have we( got|)",
            "Do you know what this is",
            "Name what you see",
            "Any idea what (this|it) is",
            "What (thing|figure) is this",
            "What (does|would) this picture (contain|have)",
        ),
    },
    "describe": {
        "zh": (
            "请(把|将)(图片|画面|这张图)(描述|说明)(一下|)",
            "用(中文|两句话|简短的话|一些话)(描述|说明)(这张图|图片|画面)(的内容|)",
            "描述你看到的(一切|内容|东西)",
            "写(一段|)(图片|)(描述|说明)",
            "(把|将)图(里|中)的内容(描述|说)(一下|给我听)",
        ),
        "en": (
            "(Please |)describe everything( you see| here|)",
            "Give (a|me a) (full |)description",
            "I (want|need|would like) a description( of this image|)",
            "Describe all (the |)(shapes|objects|things)( in the picture| you see|)",
            "What (would|does) a description of this (picture|image) (say|look like)",
            "Explain the (picture|image)( to me|)",
            "Put (this picture|the image) into words",
        ),
    },
    "count": {
        "zh": (
            "请(数|数出|数一下)(图中|画面里|里面)(有|)(几|多少)个(图形|形状|物体)",
            "(图中|画面里|)(图形|形状)(的|)总数(是多少|)",
            "(画了|共有|总计|画着)(几|多少)个(图形|形状|东西)",
            "里面(一共|共|)有(几|多少)个(图形|形状)",
            "(图形|形状)(共|总共|)(几|多少)个",
            "图片(里面|上面|)(的图形|有图形)(几|多少)个",
            "(请|)(说出|告诉我)(图形|形状)的(数量|总数)",
        ),
        "en": (
            "How many (shapes|figures|things) (were|have been|got) (painted|placed|shown|put here)",
            "What's the (count|number) of (objects|things|figures)",
            "Tell me how many (shapes|objects|things) (there are|you see)",
            "How many (separate|different|individual) (things|figures|shapes|objects) (are (shown|there|visible)|do you see)",
            "(Give|State) the (number|count|total) of (shapes|objects)",
            "Total (number of |count of |)(shapes|objects|figures)",
            "How many (things|shapes) (can be seen|are drawn|were drawn|are visible)",
            "The (number|count) of shapes is what",
        ),
    },
    "count_of": {
        "zh": (
            "里面(一共|)有(几|多少)个{x}",
            "能看(到|见)(几|多少)个{x}",
            "{x}(一共|总共|共)(有|)(几|多少)个",
            "画(了|着)(几|多少)个{x}",
        ),
        "en": (
            "How many {xs} (were drawn|are shown|are visible|can be seen|were painted)",
            "Tell me how many {xs} (there are|you see)",
            "What's the (number|total) of {xs}",
            "(Give|State) the (number|count) of {xs}",
        ),
    },
    "color_of": {
        "zh": (
            "请(讲|指|告诉我)(出|)(图中|){x}(的颜色|是什么颜色)",
            "{x}(涂|画|用)(的|了)(是|)什么颜色",
            "那个{x}(是|涂成|是涂成)什么颜色(的|)",
            "(请|)(回答|指明|报出|说明){x}(的颜色|是什么颜色)",
            "我想知道{x}(的颜色|是什么颜色)",
            "{x}(被|)(画成|涂成)了(什么|啥)颜色",
        ),
        "en": (
            "(What|Which) (color|colour) (was|is) used (for|on) the {x}",
            "(State|Say|Give) the (color|colour) of the {x}",
            "In (what|which) (color|colour) is the {x}( drawn| painted|)",
            "The {x}, what (color|colour) is it",
            "(Please |)(report|specify|mention|indicate|describe|identify|name) the (color|colour) of the {x}",
            "(Please say|State) (which|what) (color|colour) the {x} (is|has)",
            "I (want|would like) to know (the (color|colour) of the {x}|what (color|colour) the {x} is)",
            "(What|Which) (color|colour) has the {x}( got|)",
            "(What|Which) (color|colour) (was|is) the {x} (drawn|painted)( in|)",
        ),
    },
    "shape_of": {
        "zh": (
            "请(指|讲)出{x}(的|是什么)(形状|图形)",
            "那个{x}(是|算)(什么|哪种)(形状|图形)",
            "{x}(属于|算是)(什么|哪种)(图形|形状)",
            "(请|)(回答|指明|报出|说明){x}(的形状|是什么形状)",
            "我想知道{x}(的形状|是什么形状|是什么图形)",
            "{x}(画的|)(是|)个什么",
        ),
        "en": (
            "(Say|Give) the shape of the {x}",
            "What (figure|kind of figure|form) is the {x}",
            "What form (has|is) the {x}",
            "(What|Which) shape (has|was) the {x}( got|)",
            "The {x}, what shape is it",
            "(Please |)(report|specify|mention|indicate|describe|identify|name) the shape of the {x}",
            "(What|Which) form (is|has) the {x}( got|)",
            "(Please say|State) (which|what) shape the {x} (is|has)",
            "I (want|would like) to know (the shape of the {x}|what shape the {x} is)",
        ),
    },
    "is_there": {
        "zh": (
            "请(看看|告诉我)(图中|)(有没有|是否有|是不是有){x}",
            "(可以|能)(在图中|在这里|)(找到|看见|看到){x}(吗|不)",
            "图(里|中)(能|可以)(找到|看到){x}(吗|)",
            "(这|图)里面(有|有没有|是否有){x}(吗|)",
            "{x}(能|可以)(看到|找到)吗",
        ),
        "en": (
            "(Would|Could|Can) you (see|spot|locate) a {x}( in the picture| here|)",
            "Is a {x} (somewhere|to be found|drawn|included|anywhere)( in the picture| here|)",
            "Has a {x} been drawn",
            "Tell me (if|whether) there is a {x}",
            "Would there be a {x}( here|)",
            "Is a {x} among the shapes",
        ),
    },
    "where": {
        "zh": (
            "{x}(画|放|位)(在|于)(图片的|图的|画面的)(哪里|什么位置|哪个地方|哪边)",
            "请(说|指)出{x}(在哪里|的位置|在图中的位置)",
            "(请|)(回答|指明|报出|说明){x}(的位置|在哪里|在哪边)",
            "我想知道{x}(的位置|在哪里)",
            "{x}处(于|在)(哪里|什么位置|图的哪里)",
            "{x}在(图片|图)的什么(地方|方位)",
        ),
        "en": (
            "Which (side|corner|area|part) of the (picture|image) (is|has|holds) the {x}( in|)",
            "In (which|what) (area|corner|place) is the {x}",
            "Where (was|has) the {x} (drawn|been drawn|been placed)",
            "What part of the (picture|image) (is|has|contains) the {x}( in|)",
            "(Say|State) where the {x} is",
            "(Please |)(report|specify|mention|indicate|describe|identify|name) the (position|location|place) of the {x}",
            "I (want|would like) to know (the position of the {x}|where the {x} is)",
        ),
    },
    "number": {
        "zh": (
            "把(图里|图上|这个|上面)(的|)(数字|数)(读|念|说)(出来|一下|给我听)",
            "(图中|上面)的(数字|数)(为|是|等于)(几|多少)",
            "请(读|说|念)(出|)(图中|图里|上面)(的|)(数字|数)",
            "(数字|数)(等于|为)(多少|几)",
            "(读|说)出(图里|图中|上面)的(数字|数)",
        ),
        "en": (
            "(Say|State|Give|Name) the number( that is printed| shown|)",
            "(Which|What) number (can you (see|read)|is visible|was printed|is written)( here|)",
            "Read (it|this|the digits|the number)( out| aloud| for me|)",
            "Please read (this|the number)( out|)",
            "(Which|What) (number|digits) (can|could) be (read|found)( here|)",
            "The number (here |)is what",
        ),
    },
}
for _topic, _wordings in _MORE.items():
    for _language, _templates in _wordings.items():
        TRAINED[_topic][_language] += _templates

HELD_OUT: dict[str, dict[Language, tuple[str, ...]]] = {
    "what": {
        "zh": ("你能告诉我图片里的东西是什么吗", "图上画了些什么", "帮我认一认这是什么"),
        "en": ("Would you say what this picture shows", "What object is displayed", "So what have we got here"),
    },
    "describe": {
        "zh": ("请用自己的话描述这幅画面", "请把图片内容描述出来"),
        "en": ("Please give a description of what you can see", "Describe everything in this picture"),
    },
    "count": {
        "zh": ("请数出图里图形的总数", "图片里面的图形共几个", "一共画了几个图形"),
        "en": ("How many shapes have been drawn", "What's the total count of shapes", "How many distinct objects are visible"),
    },
    "count_of": {
        "zh": ("图里面{x}一共有几个", "请问能看到多少个{x}"),
        "en": ("How many {xs} have been drawn", "What's the count of {xs} in the image"),
    },
    "color_of": {
        "zh": ("请说出{x}的颜色", "图中那个{x}涂的是什么颜色"),
        "en": ("Which colour has been used for the {x}", "Please state the color of the {x}"),
    },
    "shape_of": {
        "zh": ("请说出{x}的形状", "那个{x}属于什么形状"),
        "en": ("Please state the shape of the {x}", "What form does the {x} take"),
    },
    "is_there": {
        "zh": ("请看看图里面是不是有{x}", "能在图里找到{x}吗"),
        "en": ("Would you find a {x} in the picture", "Is a {x} anywhere to be seen"),
    },
    "where": {
        "zh": ("请问{x}处在图片的什么位置", "{x}画在哪里"),
        "en": ("Whereabouts is the {x}", "Which part of the picture contains the {x}"),
    },
    "number": {
        "zh": ("请把图中的数字读出来", "图里的数字等于多少"),
        "en": ("Which number can be seen", "Please read out the number that is printed here"),
    },
}  # fmt: skip

_ZH_BEFORE = "(请问|请问，|请问一下，|请|请告诉我，|你好，|麻烦看一下，|看图回答：|问题：|帮我看看，|仔细看，|根据图片回答：|那|||||||||||||||)"
_EN_BEFORE = (
    "(Please tell me: |Look at the picture. |Look at the image: |Hi, |Hello! |Hey, |Question: |Please, |"
    "OK, |Now, |And |Tell me, |Based on the image, |||||||||||||||||)"
)


def expand(rng: Random, template: str) -> str:
    """Return `template` with every `(a|b)` replaced by one of its alternatives, innermost first."""
    while (end := template.find(")")) >= 0:
        start = template.rfind("(", 0, end)
        template = (
            template[:start]
            + rng.choice(template[start + 1 : end].split("|"))
            + template[end + 1 :]
        )
    return template


def plural(noun: str) -> str:
    """Return the English plural of a noun phrase whose head is its last word."""
    return (
        EN_PLURALS.get(noun.split(" ")[-1], noun + "s") if " " not in noun else _plural_phrase(noun)
    )


def _plural_phrase(noun: str) -> str:
    before, _, head = noun.rpartition(" ")
    return f"{before} {EN_PLURALS.get(head, head + 's')}"


def mention(rng: Random, language: Language, shape: str, color: str, is_canonical: bool) -> str:
    """Return a noun phrase for what has this shape and colour; either may be "" (any)."""
    if language == "zh":
        noun = ZH_SHAPES[shape][0] if is_canonical and shape else ""
        if shape and not noun:
            noun = rng.choice(ZH_SHAPES[shape])
        if not color:
            return noun
        hue = ZH_COLORS[color]
        if not shape:
            return (
                expand(rng, f"{hue}色的(图形|那个|形状|东西|物体|图形|)")
                if not is_canonical
                else f"{hue}色的图形"
            )
        return (
            f"{hue}色的{noun}"
            if is_canonical
            else expand(rng, f"({hue}色的|{hue}色的|{hue}色的|{hue}色|{hue}){noun}")
        )
    noun = ""
    if shape:
        noun = EN_SHAPES[shape][0] if is_canonical else rng.choice(EN_SHAPES[shape])
    elif color:
        noun = (
            "shape" if is_canonical else rng.choice(("shape", "one", "object", "thing", "figure"))
        )
    return f"{color} {noun}".strip()


def ask(rng: Random, language: Language, topic: str, slots: dict[str, str], held_out: bool) -> str:
    """Return a question on `topic` in one of its many wordings.

    Held-out wordings are returned plain: no prefix, usual punctuation.
    """
    templates = (HELD_OUT if held_out else TRAINED)[topic][language]
    text = expand(rng, rng.choice(templates))
    for key, value in slots.items():
        text = text.replace("{" + key + "}", value)
    if language == "en":
        text = _fix_article(text.strip())
    ends_as_order = text.startswith(
        ("Describe", "Count", "Tell", "Give", "Write", "Read", "List", "Name", "Locate", "Find",
         "描述", "数", "列出", "说", "请", "识别", "读", "念", "介绍", "讲", "给")
    )  # fmt: skip
    order_end, question_end = ("。", "？") if language == "zh" else (".", "?")
    end = order_end if ends_as_order else question_end
    if held_out:
        return text[:1].upper() + text[1:] + end
    if rng.random() < 0.3:
        text = _blur(rng, language, text, tuple(slots.values()))
    if language == "zh":
        end = rng.choice(
            (end, end, end, "?", "?", "", "", "。", "呢？" if end == "？" else "。", " ")
        )
        if text.endswith("吗"):
            end = end.replace("呢", "")
        text = expand(rng, _ZH_BEFORE) + text + end
        return text.replace("请请", "请").strip() or "这是什么?"
    before = expand(rng, _EN_BEFORE)
    if before.endswith((", ", "And ", ": ")) and not text.startswith("I "):
        text = text[:1].lower() + text[1:]
    else:
        text = text[:1].upper() + text[1:]
    text = before + text + rng.choice((end, end, end, end, "", " ?", ""))
    pick = rng.random()
    if pick < 0.14:
        text = text.lower()
    elif pick < 0.17:
        text = text.upper()
    return text.strip()


_KEPT_WORDS = {
    "how", "many", "what", "what's", "which", "where", "color", "colour", "colors", "colours",
    "shape", "shapes", "number", "is", "are", "there", "count", "describe", "any", "description",
    "background", "digits", "it", "its", "this", "left", "right", "top", "bottom", "middle", "light", "dark",
}  # fmt: skip
_EN_FILLERS = [
    "please",
    "actually",
    "exactly",
    "just",
    "then",
    "really",
    "now",
    "so",
    "well",
    "here",
    "kindly",
    "currently",
    "quickly",
    "simply",
    "maybe",
]
_ZH_FILLERS = (
    "到底",
    "具体",
    "一下",
    "呢",
    "啊",
    "大概",
    "究竟",
    "现在",
    "就",
    "都",
    "又",
    "您",
    "你看",
    "请",
    "里面",
    "面",
    "呀",
    "给我",
    "麻烦",
)
_ZH_DROPPED = "的了是在中里有这张图个一请片画面"


def _blur(rng: Random, language: Language, text: str, kept: tuple[str, ...]) -> str:
    """Return `text` with a word too many, too few or misspelt; phrases in `kept` stay whole."""
    if language == "zh":
        spots = [i for i in range(len(text) + 1) if not _splits(text, i, kept)]
        at = rng.choice(spots or [0])
        if rng.random() < 0.5 or at >= len(text) or text[at] not in _ZH_DROPPED or len(text) < 5:
            return text[:at] + rng.choice(_ZH_FILLERS) + text[at:]
        return text if _splits(text, at + 1, kept) else text[:at] + text[at + 1 :]
    words = text.split(" ")
    protected = {word for phrase in kept for word in phrase.lower().split(" ")} | _KEPT_WORDS
    free = [i for i, word in enumerate(words) if word.lower() not in protected]
    pick = rng.random()
    if pick < 0.5 or not free:
        at = rng.choice((0, len(words), rng.randint(0, len(words))))
        if any(
            _splits(text, len(" ".join(words[:at])) + 1, kept) for _ in (0,) if 0 < at < len(words)
        ):
            at = 0
        return " ".join([*words[:at], rng.choice(_EN_FILLERS), *words[at:]])
    at = rng.choice(free)
    if pick < 0.8 and len(words) > 3:
        return " ".join([*words[:at], *words[at + 1 :]])
    word = words[at]
    cut = rng.randrange(len(word)) if word else 0
    return " ".join([*words[:at], word[:cut] + word[cut + 1 :] or word, *words[at + 1 :]])


def _splits(text: str, at: int, kept: tuple[str, ...]) -> bool:
    """Tell whether position `at` lies inside one of the phrases."""
    for phrase in kept:
        begin = text.find(phrase) if phrase else -1
        if begin >= 0 and begin < at < begin + len(phrase):
            return True
    return False


def _fix_article(text: str) -> str:
    return (
        text.replace(" a orange", " an orange")
        .replace("  ", " ")
        .replace(" a object", " an object")
    )

"""What a model is made of, from its config.json alone: no weights, no torch."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import catalogue
from sightline.cli.columns import columns, size
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ends_cleanly, print_json
from sightline.settings import Settings

if TYPE_CHECKING:
    from sightline.core.image_policy import ImagePolicy
    from sightline.hub.facts import NamedFacts
    from sightline.models.footprint import Footprint
    from sightline.models.outline import Outline, Shape

# Pictures of everyday sizes, for models that see any size.
EXAMPLE_SIZES = ((224, 224), (640, 480), (1280, 720), (1920, 1080), (4032, 3024))
QUESTION_TOKENS = 30


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("inspect.help"))
    @ends_cleanly
    @takes_settings("model_dir")
    def inspect(
        settings: Settings,
        name: Annotated[
            str, typer.Argument(metavar="MODEL", help=catalogue.text("inspect.model"))
        ] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help=catalogue.text("inspect.json"))
        ] = False,
    ) -> None:
        from sightline.plan import named_facts

        named = named_facts(name, settings)
        if as_json:
            print_json(report(named))
        else:
            print("\n".join(lines(named)))


def lines(named: "NamedFacts") -> Iterator[str]:
    facts = named.facts
    whole = footprint(named)
    where = (
        catalogue.text("inspect.here", folder=named.folder)
        if named.folder is not None
        else catalogue.text("inspect.not_here")
    )
    yield f"{named.name} ({facts.family.model_type}): {where}"
    yield catalogue.text(
        "inspect.total",
        number=f"{facts.num_parameters:,}",
        size=size(whole.weight_bytes),
        dtype=facts.dtype if facts.stored is None else facts.stored,
    )
    yield ""
    yield from tree_lines(facts.outline, whole)
    yield catalogue.text("inspect.folded")
    yield ""
    yield from part_lines(named)
    yield ""
    if facts.image_policy is not None:
        yield from picture_lines(named)
        yield ""
    yield from prompt_lines(named)


def footprint(named: "NamedFacts", scheme: str = "none", dtype: str | None = None) -> "Footprint":
    """Return the model's sizes, both parts quantised by `scheme` unless it is stored otherwise."""
    from sightline.models.footprint import Footprint
    from sightline.models.quantization import choose_quantization

    facts = named.facts
    chosen = choose_quantization(scheme, scheme)
    return Footprint(
        facts=facts,
        dtype=facts.dtype if dtype is None else dtype,  # type: ignore[arg-type]
        quantization=facts.stored if facts.stored is not None and scheme == "none" else chosen,
    )


def tree_lines(outline: "Outline", whole: "Footprint") -> list[str]:
    """Draw the modules as a printed torch module shows them, layers of a kind folded."""
    heads = ("structure", "shape", "parameters", "size")
    rows = [tuple(catalogue.text(f"inspect.column.{name}") for name in heads)]
    rows += _tree_rows(outline, "", "", "", whole)
    return columns(rows, "<<>>")


def _tree_rows(
    outline: "Outline", name: str, path: str, indent: str, whole: "Footprint"
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for a module, and those of what is in it. `path` stands before its tensors."""
    label = outline.kind
    if outline.count > 1:
        label = f"(0-{outline.count - 1}): {outline.count} x {outline.kind}"
    elif name:
        label = f"({name}): {outline.kind}"
    shapes = "" if outline.children else " + ".join(map(_shape, outline.tensors.values()))
    number = outline.num_parameters
    yield indent + label, shapes, f"{number:,}", size(_bytes(outline, path, whole))
    path += "*." if outline.count > 1 else ""
    tensors, modules = _contents(outline)
    for tensor, shape in tensors.items() if modules else ():
        label, number = f"{indent}  ({tensor}): Parameter", math.prod(shape)
        taken = _bytes(replace(outline, tensors={tensor: shape}, children={}, count=1), path, whole)
        yield label, _shape(shape), f"{number:,}", size(taken)
    for child_name, child in modules.items():
        inside = path + (f"{child_name}." if child_name else "")
        yield from _tree_rows(child, child_name, inside, indent + "  ", whole)


def _bytes(outline: "Outline", path: str, whole: "Footprint") -> int:
    """Return what a module takes, in the format in which its weights are stored."""
    from sightline.models.facts import ITEM_BYTES
    from sightline.models.outline import weights
    from sightline.models.quantization import weight_bytes

    item = ITEM_BYTES[whole.dtype]
    return sum(
        weight.count
        * weight_bytes(path + weight.name, weight.shape, whole.quantization, itemsize=item)
        for weight in weights(outline)
    )


def _contents(outline: "Outline") -> tuple[dict[str, "Shape"], dict[str, "Outline"]]:
    """Return a module's own tensors and the modules in it; one without a name is no module."""
    tensors = dict(outline.tensors)
    modules: dict[str, Outline] = {}
    for name, child in outline.children.items():
        if name or child.count > 1:
            modules[name] = child
        else:
            tensors |= child.tensors
    return tensors, modules


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def part_lines(named: "NamedFacts") -> list[str]:
    """What every part takes in the number formats that there are."""
    kinds = {
        "bfloat16": footprint(named, dtype="bfloat16"),
        "float32": footprint(named, dtype="float32"),
    }
    if named.facts.stored is None:
        kinds |= {scheme: footprint(named, scheme, "bfloat16") for scheme in ("int8", "int4")}
    else:
        kinds = {str(named.facts.stored): footprint(named)}
    first = next(iter(kinds.values()))
    total = named.facts.num_parameters
    heads = [catalogue.text("inspect.column.part"), catalogue.text("inspect.column.parameters")]
    rows = [[*heads, "%", *kinds]]
    for i, part in enumerate(first.parts):
        rows.append(
            [
                catalogue.text(f"inspect.part.{part.part}"),
                f"{part.num_parameters:,}",
                f"{part.num_parameters / total:.1%}",
                *(size(kind.parts[i].num_bytes) for kind in kinds.values()),
            ]
        )
    sums = [size(kind.weight_bytes) for kind in kinds.values()]
    rows.append([catalogue.text("inspect.part.all"), f"{total:,}", "100.0%", *sums])
    found = columns(rows, "<>>" + ">" * len(kinds))
    if not any(part.part == "head" for part in first.parts):
        found.append(catalogue.text("inspect.tied"))
    return found


def picture_lines(named: "NamedFacts") -> Iterator[str]:
    """From pixels to patches to rows to tokens, positions and bytes of keys and values."""
    yield catalogue.text("inspect.pictures")
    heads = ("picture", "resized", "patches", "tokens", "positions", "kv")
    rows = [tuple(catalogue.text(f"inspect.column.{name}") for name in heads)]
    for row in _pictures(named):
        rows.append(
            (
                row["picture"] or catalogue.text("inspect.any_size"),
                row["resized"],
                row["patches"],
                f"{row['tokens']:,}",
                f"{row['positions']:,}",
                size(row["kv_bytes"]),
            )
        )
    yield from (f"  {line}" for line in columns(rows, "<<<>>>"))
    policy = named.facts.image_policy
    assert policy is not None
    yield "  " + catalogue.text("inspect.most_pictures", number=policy.max_images)


def _pictures(named: "NamedFacts") -> Iterator[dict[str, Any]]:
    facts = named.facts
    policy, patches = facts.image_policy, facts.blueprint.patches
    if policy is None or patches is None:
        return
    sizes = EXAMPLE_SIZES if policy.tokens_per_image is None else ((0, 0),)
    kv_bytes = footprint(named).kv_token_bytes
    for wide, high in sizes:
        width, height = policy.target_size(wide, high)
        tokens = policy.count_tokens(width, height) or 0
        across, down = width // patches.side, height // patches.side
        merged = f" / {patches.merge} x {patches.merge}" if patches.merge > 1 else ""
        positions = {
            "three": 3,
            "rows": tokens,
            "longer side": max(across, down) // patches.merge,
        }[patches.positions]
        yield {
            "picture": f"{wide} x {high}" if wide else "",
            "resized": f"{width} x {height}",
            "patches": f"{across} x {down}{merged}",
            "num_patches": across * down,
            "tokens": tokens,
            "positions": positions,
            "kv_bytes": tokens * kv_bytes,
        }


def prompt_lines(named: "NamedFacts") -> Iterator[str]:
    facts = named.facts
    kv_bytes = footprint(named).kv_token_bytes
    layers, groups, head_dim = facts.blueprint.kv_shape
    item = kv_bytes // (2 * layers * groups * head_dim)
    context = facts.blueprint.max_positions
    yield catalogue.text("inspect.prompts")
    rows = [
        (
            catalogue.text("inspect.kv_token"),
            f"{layers} x 2 x {groups} x {head_dim} x {item} = {size(kv_bytes)}",
        ),
        (
            catalogue.text("inspect.context"),
            f"{context:,} x {size(kv_bytes)} = {size(context * kv_bytes)}",
        ),
    ]
    policy = facts.image_policy
    if policy is not None:
        most = policy.most_tokens
        tokens = most + QUESTION_TOKENS
        rows.append(
            (
                catalogue.text("inspect.question", words=QUESTION_TOKENS),
                f"{most:,} + {QUESTION_TOKENS} = {tokens:,} tokens = {size(tokens * kv_bytes)}",
            )
        )
    yield from (f"  {line}" for line in columns(rows, "<<"))
    yield "  " + catalogue.text("inspect.layers", layers=layers, groups=groups, head=head_dim)


def report(named: "NamedFacts") -> dict[str, Any]:
    """Everything as plain values; sizes in bytes."""
    facts = named.facts
    whole = footprint(named)
    formats = {
        f"{scheme}": footprint(named, scheme, "bfloat16").weight_bytes
        for scheme in ("int8", "int4")
        if facts.stored is None
    }
    for dtype in ("bfloat16", "float16", "float32"):
        formats[dtype] = footprint(named, dtype=dtype).weight_bytes
    return {
        "name": named.name,
        "folder": None if named.folder is None else str(named.folder),
        "model_type": facts.family.model_type,
        "dtype": facts.dtype,
        "quantization": None if facts.stored is None else str(facts.stored),
        "num_parameters": facts.num_parameters,
        "weight_bytes": whole.weight_bytes,
        "parts": [
            {"part": p.part, "num_parameters": p.num_parameters, "bytes": p.num_bytes}
            for p in whole.parts
        ],
        "formats": formats,
        "context": facts.blueprint.max_positions,
        "kv": {
            **facts.blueprint.kv_shape._asdict(),
            "bytes_per_token": whole.kv_token_bytes,
            "bytes_per_context": whole.kv_token_bytes * facts.blueprint.max_positions,
        },
        "max_images": _max_images(facts.image_policy),
        "pictures": list(_pictures(named)),
        "structure": _node(facts.outline),
    }


def _max_images(policy: "ImagePolicy | None") -> int:
    return 0 if policy is None else policy.max_images


def _node(outline: "Outline") -> dict[str, Any]:
    found: dict[str, Any] = {"class": outline.kind, "num_parameters": outline.num_parameters}
    if outline.count > 1:
        found["count"] = outline.count
    tensors, modules = _contents(outline)
    if tensors:
        found["tensors"] = {name: list(shape) for name, shape in tensors.items()}
    if modules:
        found["children"] = {
            name or f"0-{child.count - 1}": _node(child) for name, child in modules.items()
        }
    return found

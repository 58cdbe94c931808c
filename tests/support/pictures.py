import io

from PIL import Image, ImageDraw


def red_circle(size: int = 400) -> bytes:
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse([size * 0.3, size * 0.3, size * 0.7, size * 0.7], fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

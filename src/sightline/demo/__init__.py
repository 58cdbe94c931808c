"""The bundled model: GLM-4V's architecture in small, so that a bare machine can answer at once."""

from pathlib import Path

MODEL_ID = "sightline-demo"
MODEL_DIR = Path(__file__).parent / "model"

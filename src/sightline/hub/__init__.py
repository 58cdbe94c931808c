"""Where models are found. Today: folders on this machine."""

from sightline.hub.local import LocalModel, check_folder, find_models, resolve_model

__all__ = ["LocalModel", "check_folder", "find_models", "resolve_model"]

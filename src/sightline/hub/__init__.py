"""Where models are found: folders on this machine, and the hubs they are downloaded from."""

from sightline.hub.local import LocalModel, check_folder, find_models, resolve_model

__all__ = ["LocalModel", "check_folder", "find_models", "resolve_model"]

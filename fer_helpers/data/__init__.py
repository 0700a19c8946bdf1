"""Faces and their labels: read from files or drawn, checked, cached, and split.
Nothing here trains; a `FaceSet` is what every other wing takes."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .duplicates import augmented_pairs, exact_groups, near_groups
    from .emotions import ACTION_UNITS, CLASS_SETS, EMOTIONS, PROTOTYPES, REGIONS, VOTE_COLUMNS
    from .faceset import IMAGE_SIZE, SPLITS, FaceSet
    from .image_files import read_photograph
    from .readers import download_faces, load_faces, map_faces
    from .rendering import FaceParams, render
    from .synthetic import embedded_faces, make_faces, sample_params
    from .validation import check_faces
else:
    __getattr__ = hand_on(__name__, {
        "augmented_pairs": "duplicates", "exact_groups": "duplicates", "near_groups": "duplicates",
        "ACTION_UNITS": "emotions", "CLASS_SETS": "emotions", "EMOTIONS": "emotions", "PROTOTYPES": "emotions",
        "REGIONS": "emotions", "VOTE_COLUMNS": "emotions",
        "IMAGE_SIZE": "faceset", "SPLITS": "faceset", "FaceSet": "faceset",
        "download_faces": "readers", "load_faces": "readers", "map_faces": "readers", "read_photograph": "image_files",
        "FaceParams": "rendering", "render": "rendering",
        "embedded_faces": "synthetic", "make_faces": "synthetic", "sample_params": "synthetic",
        "check_faces": "validation",
    })

__all__ = [
    "ACTION_UNITS", "CLASS_SETS", "EMOTIONS", "IMAGE_SIZE", "PROTOTYPES", "REGIONS", "SPLITS", "VOTE_COLUMNS",
    "FaceParams", "FaceSet", "augmented_pairs", "check_faces", "download_faces", "embedded_faces", "exact_groups",
    "load_faces", "make_faces", "map_faces", "near_groups", "read_photograph", "render", "sample_params",
]

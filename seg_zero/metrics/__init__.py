"""Metrics of masks: reasoning segmentation (gIoU, cIoU and the like, by three published rules), dialogues by round,
and masks in video (J, F, J&F)."""
"""Metrics of masks: reasoning segmentation (gIoU, cIoU and the like, by three published rules),
of masks in video (J, F, J&F), and of instances in 3D (AP)."""

from seg_zero.metrics.instances3d import InstanceAP, map_to_truth
from seg_zero.metrics.reasoning import (
    GRES_FRACTIONS,
    IGNORE,
    PRECISION_THRESHOLDS,
    RULES,
    GresMetrics,
    MaskCounts,
    MaskMetrics,
    Metrics,
    SegZeroMetrics,
    box_accuracy,
    count_pixels,
    evaluate_masks,
    gres_hits,
    intersection_union,
    iou_of,
    metrics_for,
    point_in_mask,
)
from seg_zero.metrics.rounds import RoundMetrics, RoundScore, SegLlmMetrics, in_frame, score_round
from seg_zero.metrics.video import ClipScore, VideoMetrics, boundary_accuracy, region_similarity, score_clip

__all__ = [
    "GRES_FRACTIONS",
    "IGNORE",
    "PRECISION_THRESHOLDS",
    "RULES",
    "ClipScore",
    "GresMetrics",
    "InstanceAP",
    "MaskCounts",
    "MaskMetrics",
    "Metrics",
    "RoundMetrics",
    "RoundScore",
    "SegLlmMetrics",
    "SegZeroMetrics",
    "VideoMetrics",
    "boundary_accuracy",
    "box_accuracy",
    "count_pixels",
    "evaluate_masks",
    "gres_hits",
    "in_frame",
    "intersection_union",
    "iou_of",
    "map_to_truth",
    "metrics_for",
    "point_in_mask",
    "region_similarity",
    "score_clip",
    "score_round",
]

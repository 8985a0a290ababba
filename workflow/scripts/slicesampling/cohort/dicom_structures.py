"""DICOM structure sets: planar contours, filled on the slices of a series."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon
from scipy import ndimage

from .. import UserError
from .dicom import SPACING_TOLERANCE, Stack
from .dicom_files import UNREADABLE, known_numbers, read_header
from .grids import REVERSE

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Types of contours that enclose an area."""

BEYOND = 64
"""The margin around the image, in pixels, in which the area of contours is counted."""

IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]
"""A pixel and its four in-plane neighbours."""

SAME_PLANE = 0.1
"""Contours are in the same plane if their heights differ by less than this share of the slice spacing."""


class Plane(NamedTuple):
    """The filled contours of one plane.

    height: along the normal of the slices in mm; pixels: bool (row, column) of the image; lost: the number of enclosed
    pixels beyond the image.
    """

    height: float
    pixels: np.ndarray
    lost: int


def read_structures(path: Path, stack: Stack, wanted: Collection[int], remarks: list[str]) -> np.ndarray:
    """Fill the contours of regions of interest on the grid of `stack`: bool (slice, row, column).

    A pixel is inside if its centre is. Contours of a region within others of the same plane are holes; the union of
    regions is taken. Contours belong to the slice in their plane. If that slice is missing and `stack` is uneven, they
    are used for the interpolation of slices; other contours between slices are left out, with a line in `remarks`.
    Without `wanted` numbers, the only region is used. Raise `UserError` for invalid contours, and if the volume of the
    mask is less than that of the contours by more than its outermost pixels.
    """
    try:
        planes = _planes(path, stack, _regions(path, wanted))
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM structure set ({type(error).__name__})") from error
    mask, left_out = _on_grid(stack, planes)
    if left_out:
        remarks.append(f"the contours of {left_out} planes lie between the slices: left out")
    _check_volume(path, stack, planes, mask)
    return mask


def _regions(path: Path, wanted: Collection[int]) -> dict[int, list[pydicom.Dataset]]:
    """Return the contours of each wanted region of interest, or of the only one, by its number."""
    structures = read_header(path, ("StructureSetROISequence", "ROIContourSequence"))
    regions = {
        int(item.ReferencedROINumber): list(item.get("ContourSequence") or [])
        for item in structures.get("ROIContourSequence") or []
    }
    known_numbers(path, "region of interest", regions, wanted)
    if not wanted and len(regions) != 1:
        raise UserError(f"{path}: has {len(regions)} regions of interest; liver_values must say which are liver")
    return {number: contours for number, contours in regions.items() if not wanted or number in wanted}


def _planes(path: Path, stack: Stack, regions: dict[int, list[pydicom.Dataset]]) -> list[Plane]:
    """Return the planes with filled contours."""
    drawn: list[tuple[float, int, np.ndarray]] = []
    first, last = stack.heights[0] - stack.usual / 2, stack.heights[-1] + stack.usual / 2
    for number, contours in regions.items():
        for contour in contours:
            if contour.ContourGeometricType not in CLOSED:
                raise UserError(f"{path}: a contour is {contour.ContourGeometricType}; accepted is CLOSED_PLANAR")
            points = np.asarray(contour.ContourData, dtype=float).reshape(-1, 3)
            if len(points) < 3 or not np.isfinite(points).all():
                raise UserError(f"{path}: a contour has {len(points)} points; accepted are three or more, finite")
            heights = points @ stack.normal
            if np.ptp(heights) > 2 * SPACING_TOLERANCE * stack.usual:
                raise UserError(
                    f"{path}: a contour reaches from {heights.min():.3f} to {heights.max():.3f} mm along the normal of "
                    "the slices; accepted are contours in the plane of a slice"
                )
            if not first <= heights.mean() <= last:
                raise UserError(
                    f"{path}: the contour at {heights.mean():.3f} mm along the normal is off any slice; slices are at "
                    f"{stack.heights[0]:.3f} to {stack.heights[-1]:.3f} mm"
                )
            drawn.append((float(heights.mean()), number, points))
    drawn.sort(key=lambda one: one[0])
    heights = np.array([height for height, _, _ in drawn])
    ends = np.flatnonzero(np.diff(heights) > SAME_PLANE * stack.usual) + 1
    return [
        _filled(stack, drawn[part[0] : part[-1] + 1]) for part in np.split(np.arange(len(drawn)), ends) if len(part)
    ]


def _filled(stack: Stack, drawn: list[tuple[float, int, np.ndarray]]) -> Plane:
    """Fill the contours of a plane, each (height, region, points (point, xyz) in mm); duplicates count once."""
    height = float(np.mean([one[0] for one in drawn]))
    k = stack.nearest(height)
    to_index = np.linalg.inv(REVERSE @ stack.slice_grid(k).affine @ REVERSE)  # x, y, z in mm → column, row, any
    rows, columns = stack.slices[0].size
    whole = np.zeros((rows + 2 * BEYOND, columns + 2 * BEYOND), bool)
    for region in {number for _, number, _ in drawn}:
        different = {points.tobytes(): points for _, number, points in drawn if number == region}
        enclosed = np.zeros_like(whole)
        for points in different.values():
            _turn(enclosed, (to_index[:3, :3] @ (points - stack.positions[k]).T)[:2].T + BEYOND)
        whole |= enclosed
    pixels = whole[BEYOND : BEYOND + rows, BEYOND : BEYOND + columns].copy()
    return Plane(height, pixels, int(whole.sum() - pixels.sum()))


def _turn(mask: np.ndarray, points: np.ndarray) -> None:
    """Invert, in place, the pixels (row, column) with centres inside a polygon of points (column, row) in pixels."""
    last = np.array(mask.shape[::-1]) - 1
    low, high = (
        np.clip(end, 0, last).astype(int) for end in (np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)))
    )
    columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
    centres = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    inside = Polygon(np.vstack([points, points[:1]])).contains_points(centres)
    mask[low[1] : high[1] + 1, low[0] : high[0] + 1] ^= inside.reshape(len(rows), len(columns))


def _on_grid(stack: Stack, planes: list[Plane]) -> tuple[np.ndarray, int]:
    """Return the mask of planes on the grid of a stack, bool (slice, row, column), and the number of unused planes."""
    on_slice: dict[int, Plane] = {}
    between = []
    for plane in sorted(planes, key=lambda plane: abs(plane.height - stack.heights[stack.nearest(plane.height)])):
        k = stack.nearest(plane.height)
        near = abs(plane.height - stack.heights[k]) <= SPACING_TOLERANCE * stack.usual
        if near and k not in on_slice:
            on_slice[k] = plane
        else:
            between.append(plane)
    mask = np.zeros(stack.shape, bool)
    for k, plane in on_slice.items():
        mask[k] = plane.pixels
    inner = [one for one in between if not stack.even and stack.heights[0] < one.height < stack.heights[-1]]
    heights = np.concatenate([stack.heights, [one.height for one in inner]])
    order = np.argsort(heights)
    drawn = np.concatenate([mask, *(one.pixels[None] for one in inner)])[order]
    return stack.evened(drawn, heights[order]), len(between) - len(inner)


def _check_volume(path: Path, stack: Stack, planes: list[Plane], mask: np.ndarray) -> None:
    """Raise `UserError` if the mask's volume is below the contours' areas times their distance by more than its rim."""
    distance = float(np.median(np.diff([plane.height for plane in planes]))) if len(planes) > 1 else stack.usual
    rows, columns = stack.slices[0].spacing
    pixel = rows * columns / 1000
    drawn = sum(int(plane.pixels.sum()) + plane.lost for plane in planes) * pixel * distance
    step = np.linalg.norm(stack.grid().affine[:3, 0])
    held = int(mask.sum()) * pixel * step
    rim = int((mask & ~ndimage.binary_erosion(mask, IN_PLANE)).sum()) * pixel * step
    if drawn - held > max(rim, 1.5 * pixel * distance):
        raise UserError(
            f"{path}: its contours enclose {drawn:.1f} ml in planes {distance:.3g} mm apart, but only {held:.1f} ml "
            f"are in the mask, whose slices are {step:.3g} mm apart; are slices or contours missing?"
        )

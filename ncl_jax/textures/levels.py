"""What a synthesis does at each resolution, by quality."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution: pixels of the output `spacing` apart are resolved; neighbourhoods are as wide."""

    spacing: int  # of output pixels, and of a neighbourhood's taps in the exemplar
    step: int  # of source positions, divides the spacing
    passes: int  # over all four parities
    priced: int  # of them, the first ones: those that mind how much places and colours are used
    random: int  # candidates at random places, per pixel
    features: int  # of a neighbourhood
    wide: bool  # coherent candidates from 3x3 neighbours, else from the plus-shaped five
    crowding: float  # price of a source region that is used more than others
    tone: float  # price of colours that are used more than the exemplars have them


@dataclasses.dataclass(frozen=True)
class Quality:
    """Settings by spacing; see `plan`."""

    passes: dict[int, int]
    random: dict[int, int]
    features: dict[int, int]
    wide_from: int  # spacing
    sigma: float  # pixels of a level: weight of the neighbourhood's taps
    crowding: float = 0.01  # in units of the exemplars' variance, at spacings of 8 and more; see `plan`
    tone: float = 0.04  # in the same units, at spacings of 8 and 4
    reluctance: float = 0.1  # towards random candidates: their distance counts as (1 + this) times as long


# More random candidates, or crowding priced at finer levels too, break the pieces up; a wider neighbourhood and more
# features make better seams, these where pieces are laid out and hardly where they are trimmed. Plain areas grow with
# every pass at the coarse levels, which a price on tone holds back; what seams that costs, a last pass without prices
# at the finest priced level heals.
_FAST = Quality(
    passes={16: 2, 8: 2, 4: 2, 2: 2, 1: 1},
    random={16: 4, 8: 4, 4: 2, 2: 0, 1: 0},
    features={16: 24, 8: 24, 4: 24, 2: 16, 1: 8},
    wide_from=4,
    sigma=1.6,
)
QUALITIES = {
    "standard": Quality(
        passes={16: 2, 8: 4, 4: 4, 2: 2, 1: 1},
        random={16: 4, 8: 4, 4: 3, 2: 1, 1: 0},
        features={16: 36, 8: 36, 4: 36, 2: 24, 1: 12},
        wide_from=2,
        sigma=2.0,
        reluctance=0.04,
    ),
    "fast": _FAST,
    "draft": dataclasses.replace(_FAST, passes={**_FAST.passes, 1: 0}),
}
STEPS = {16: 4, 8: 4, 4: 2, 2: 1, 1: 1}  # of source positions, by spacing
COARSEST = 14  # pixels: about the least side at which synthesis starts


def exemplar_side(size: int) -> int:
    """Of a texture of this side: the paper's 96 px at 224, in proportion, and at least 4 px."""
    return max(4, round(size * 96 / 224))


def plan(quality: Quality, size: int, sides: tuple[int, int]) -> tuple[Level, ...]:
    """The levels for an output side and exemplar sides in pixels, coarsest first.

    The first spacing is the largest power of two that leaves a grid of 14 pixels and a sixth of the exemplar; at 224 px
    from 96 px it is 16. The first level starts from noise and gets one pass more where it is not that one. It is
    priced as a spacing of 8 or 4 is, too, and has a random candidate at least, so that small textures keep all of their
    exemplars; pixels have no price.
    """
    first = 2 ** int(math.log2(max(1, min(size / COARSEST, min(sides) / 6, 16))))
    crowded, toned = max(2, min(8, first)), max(2, min(4, first))  # finest levels that have the price
    levels = []
    while first >= 1:
        extra = 1 if not levels and first < 16 else 0
        levels.append(
            Level(
                spacing=first,
                step=STEPS[first],
                passes=quality.passes[first] + extra,
                priced=quality.passes[first] + extra - (1 if first == toned else 0),
                random=max(quality.random[first], 0 if levels else 1),
                features=quality.features[first],
                wide=first >= quality.wide_from,
                crowding=quality.crowding if first >= crowded else 0.0,
                tone=quality.tone if toned <= first <= 8 else 0.0,
            )
        )
        first //= 2
    return tuple(levels)

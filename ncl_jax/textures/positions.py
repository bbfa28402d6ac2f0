"""Source positions of a synthesis, packed in a word each, and random ones.

A word holds exemplar (7 bits), row and column (12 bits each) in pixels; -1 stands for no position.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Int32, Num, UInt32

from ncl_jax.textures import features

ROW, EXEMPLAR, FIELD = 12, 24, (1 << 12) - 1
Steps = int | Int[Array, "*n"]  # pixels, one number or one for each position


@dataclasses.dataclass(frozen=True)
class Space:
    """The source positions of a level: every `step`-th pixel (a power of two) of each exemplar."""

    count: int
    rows: int
    columns: int
    step: int
    spacing: int

    @property
    def bins(self) -> int:
        """Regions along an exemplar's side whose use is counted: 12, or fewer, so that all have at most 288 and each
        is two positions wide."""
        return max(1, min(12, int((288 / self.count) ** 0.5), self.rows // 2, self.columns // 2))

    def random(self, bits: UInt32[Array, "*n"]) -> Int32[Array, "*n"]:
        """Positions from random words; sides are below 2^16, so that products stay in a word."""
        exemplar = (((bits * jnp.uint32(0x9E3779B9)) >> 16) * jnp.uint32(self.count)) >> 16
        row = (((bits & jnp.uint32(0xFFFF)) * jnp.uint32(self.rows)) >> 16) * jnp.uint32(self.step)
        column = (((bits >> 16) * jnp.uint32(self.columns)) >> 16) * jnp.uint32(self.step)
        return ((exemplar << EXEMPLAR) | (row << ROW) | column).astype(jnp.int32)

    def shifted(self, position: Int32[Array, "*n"], down: Steps, right: Steps) -> Int32[Array, "*n"]:
        """Positions moved by multiples of the step; -1 where they leave the exemplar, and where they were."""
        row, column = ((position >> ROW) & FIELD) + down, (position & FIELD) + right
        inside = (row >= 0) & (row < self.rows * self.step) & (column >= 0) & (column < self.columns * self.step)
        return jnp.where(inside & (position >= 0), position + ((down << ROW) + right), -1)

    def mirrored(self, position: Int32[Array, "*n"], down: Steps, right: Steps) -> Int32[Array, "*n"]:
        """Positions moved downwards and to the right, mirrored at the last row and column."""
        row, column = ((position >> ROW) & FIELD) + down, (position & FIELD) + right
        last_row, last_column = (self.rows - 1) * self.step, (self.columns - 1) * self.step
        row = jnp.where(row > last_row, 2 * last_row - row, row)
        column = jnp.where(column > last_column, 2 * last_column - column, column)
        return (position & ~((1 << EXEMPLAR) - 1)) | (row << ROW) | column

    def parts(self, position: Int32[Array, "*n"]) -> tuple[Int32[Array, "*n"], Int32[Array, "*n"], Int32[Array, "*n"]]:
        """Exemplar, and row and column on the grid of positions."""
        shift = self.step.bit_length() - 1
        return position >> EXEMPLAR, ((position >> ROW) & FIELD) >> shift, (position & FIELD) >> shift

    def index(self, position: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
        """The number of a position among all of the level."""
        exemplar, row, column = self.parts(position)
        return (exemplar * self.rows + row) * self.columns + column

    def features(self, position: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
        """The number of its features in the table."""
        rate = self.spacing // self.step
        return features.table_index(*self.parts(position), sides=(self.rows, self.columns), rate=rate)

    def region(self, position: Int32[Array, "*n"]) -> tuple[Int32[Array, "*n"], Int32[Array, "*n"]]:
        """Row (over all exemplars) and column of the region, of `bins` x `bins` per exemplar."""
        exemplar, row, column = self.parts(position)
        row = jax.lax.div(row * self.bins, jnp.int32(self.rows))
        return exemplar * self.bins + row, jax.lax.div(column * self.bins, jnp.int32(self.columns))


def noise(
    seeds: UInt32[Array, "b 2"], shape: tuple[int, ...], level: int, turn: Int[Array, "..."] | int
) -> UInt32[Array, "b *shape"]:
    """Random words `[b *shape]`, a hash of place, level and turn: cheaper than a generator none must guess."""
    count = math.prod(shape)
    x = jax.lax.iota(jnp.uint32, count).reshape(1, *shape) + jnp.uint32(count) * jnp.asarray(turn, jnp.uint32)
    seeds = seeds.reshape(-1, 2, *(1,) * len(shape))
    x = (x ^ seeds[:, 0]) + jnp.uint32(0x9E3779B9 * (level + 1) & 0xFFFFFFFF)
    x = (x ^ (x >> 16) ^ seeds[:, 1]) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def take(table: Num[Array, "b n *row"], index: Int[Array, "b *place"]) -> Num[Array, "b ..."]:
    """Row `index[b, ...]` of `table[b]`, as one gather from one table."""
    shape = (-1, *(1,) * (index.ndim - 1))
    flat = index + (jnp.arange(len(table)) * table.shape[1]).reshape(shape)
    return jnp.take(table.reshape(-1, *table.shape[2:]), flat, axis=0, mode="clip")

"""Speed and quality of every quality, each once."""

import jax.numpy as jnp
import numpy as np

from ncl_jax.benchmark import textures
from ncl_jax.benchmark.result import Options
from ncl_jax.textures import quality


def test_every_quality_is_timed_and_judged(monkeypatch, tmp_path):
    monkeypatch.setattr(textures, "SIZE", 32)
    monkeypatch.setattr(textures, "BATCH", {"cpu": 4})
    monkeypatch.setattr(textures, "EXEMPLAR", 16)
    monkeypatch.setattr(textures, "ALL", ("draft",))
    pairs = quality.builtin_exemplars(16)
    monkeypatch.setattr(quality, "builtin_exemplars", lambda side=16: pairs)
    reference = np.repeat(np.repeat(pairs[:, 0], 2, axis=1), 2, axis=2)
    np.savez(tmp_path / "pairs.npz", exemplars=np.uint8(pairs * 255), reference=np.uint8(reference * 255))
    for path, photographs in ((tmp_path / "pairs.npz", True), (tmp_path / "absent", False)):
        monkeypatch.setattr(textures, "REFERENCE", path)
        result = textures.run(Options(seconds=0.01))
        speed, drawn, *rest = result.tables.values()
        assert [row["quality"] for row in speed] == ["draft"]
        assert speed[0]["ms per image"] > 0
        assert speed[0]["memory (MiB per image)"] > 0
        assert [row["textures"] for row in drawn] == ["draft"]
        assert drawn[0]["nn7"] < 0.2
        assert len(rest) == photographs
        if photographs:
            assert [row["textures"] for row in rest[0]] == ["reference", "draft"]
            assert rest[0][0]["island"] is None  # the reference tells no sources
        else:
            assert "absent is not there" in result.notes[-1]


def test_a_quality_is_compiled_once(monkeypatch):
    traced = []

    def synthesize(key, exemplars, *, size, quality):
        traced.append(quality)
        return jnp.zeros((len(exemplars), size, size, 3))

    monkeypatch.setattr(textures, "synthesize", synthesize)
    monkeypatch.setattr(textures, "BATCH", {"cpu": 4})
    monkeypatch.setattr(textures, "ALL", ("draft", "fast"))
    rows, samples = textures._speed(0.01)
    assert traced == ["draft", "fast"]  # and what was compiled is run
    assert list(samples) == [row["quality"] for row in rows] == ["draft", "fast"]
    assert all(row["compile (s)"] > 0 for row in rows)

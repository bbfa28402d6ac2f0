"""Speed and quality of every quality, each once."""

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

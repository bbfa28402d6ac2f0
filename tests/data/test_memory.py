import os

from ncl_jax.data import memory


def test_what_holds_files_is_available_and_what_is_not_told_is_unknown(tmp_path, monkeypatch):
    assert memory.total() > memory.available() > 0
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16000 kB\nMemFree:    1000 kB\nMemAvailable:    9000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    assert memory.available() == 9000 * 1024
    meminfo.unlink()
    free = os.sysconf("SC_AVPHYS_PAGES")
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": free, "SC_PAGE_SIZE": 4096}.get)
    assert memory.available() == free * 4096
    monkeypatch.delattr(os, "sysconf")  # Windows
    monkeypatch.delattr(os, "sysconf_names")
    assert memory.total() == memory.available() == 0

"""torchvision as a reference, also where its compiled operators do not fit the installed PyTorch.

`from torchvision_reference import import_torchvision` works from every test module: pytest puts this folder on
`sys.path` (`pythonpath` in pyproject.toml). The compiled operators (NMS, RoI pooling) are then only declared, which is
enough for the models and the transforms.
"""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest

_declared = []  # a torch.library.Library withdraws its declarations when it is collected


def import_torchvision():
    """The `torchvision` module with `models` and both kinds of `transforms`; skips the test without it."""
    torch = pytest.importorskip("torch")
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("needs torchvision")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _declared and not _extension_loads(torch, Path(spec.origin).parent):
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in sorted(_operators(Path(spec.origin).parent)):
                library.define(f"{name}(Tensor a) -> Tensor")
            _declared.append(library)
        import torchvision
        import torchvision.transforms.functional
        import torchvision.transforms.v2.functional
    return torchvision


def _extension_loads(torch, folder: Path) -> bool:
    try:
        torch.ops.load_library(str(next(folder.glob("_C*"))))
    except (OSError, StopIteration):
        return False
    return True


def _operators(folder: Path) -> set[str]:
    """Names of the operators for which torchvision registers fake kernels or gradients while it is imported."""
    source = "".join(p.read_text() for p in folder.glob("_*_registrations.py"))
    return set(re.findall(r'"torchvision::(\w+)"', source))

"""The systems of the comparison: how each is installed and which of the cases it takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import environments

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class System:
    """One way to train the documented network.

    Attributes:
        script: of `peers/`.
        packages: of its own environment; empty for what runs in this one.
        check: a statement that its environment must run.
        kinds: of cases that it takes.
        precision: of Gatewise's; the others train in 32 bits.
        needs: a flag of the CPU without which it is not run, any of several.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()
    check: str = ""
    kinds: tuple[str, ...] = ("series", "text")
    precision: str = "32-true"
    needs: tuple[str, ...] = field(default_factory=tuple)

    def python(self) -> Path:
        """Its interpreter, installed where it is not there yet; raises NotInstalled where it cannot be."""
        if not self.packages:
            return Path(sys.executable)
        return environments.install(self.name, self.packages, check=self.check) / "python"

    def lacks(self) -> str:
        """What the machine lacks for it, in words; empty where nothing."""
        if not self.needs:
            return ""
        flags = Path("/proc/cpuinfo").read_text().split()
        return "" if any(flag in flags for flag in self.needs) else f"the CPU has none of {', '.join(self.needs)}"


GATEWISE = System("Gatewise", "gatewise_lightning.py")
BARE_LOOP = System("bare loop", "bare_loop.py")
KERAS = System(
    "Keras", "keras_article.py", ("tensorflow-cpu==2.21.0", "keras==3.15.1", "numpy==2.4.6"), check="import tensorflow"
)
PLAIN_TORCH = System("PyTorch", "plain_torch.py")
# Without them a CPU only pretends, and is slower.
_HAS_BF16 = ("avx512_bf16", "amx_bf16")
BF16 = System("Gatewise, bf16", "gatewise_lightning.py", precision="bf16-mixed", needs=_HAS_BF16)
PRODUCTS = System("products alone", "products.py", kinds=("series",))
PRODUCTS_BF16 = System(
    "products alone, bf16", "products.py", kinds=("series",), precision="bf16-mixed", needs=_HAS_BF16
)
LUDWIG = System(
    "Ludwig",
    "ludwig_text.py",
    # Its newest release asks for a torchaudio that no later torch loads.
    ("ludwig==0.11.0", "torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0"),
    check="from ludwig.api import LudwigModel",
    kinds=("text",),
)
SYSTEMS = (GATEWISE, BF16, PLAIN_TORCH, KERAS, LUDWIG, PRODUCTS, PRODUCTS_BF16)

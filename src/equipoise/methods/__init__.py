"""Every balancing method by name."""

from equipoise.core import Method

from .cagrad import CAGrad
from .constant import Constant
from .dwa import DWA
from .famo import FAMO
from .go4align import GO4Align
from .graddrop import GradDrop
from .imtl_g import IMTLG
from .ls import LS
from .mgda import MGDA
from .nashmtl import NashMTL
from .pcgrad import PCGrad
from .rlw import RLW
from .si import SI
from .stl import STL
from .uw import UW

METHODS: dict[str, type[Method]] = {
    "ls": LS,
    "si": SI,
    "rlw": RLW,
    "dwa": DWA,
    "uw": UW,
    "famo": FAMO,
    "go4align": GO4Align,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "graddrop": GradDrop,
    "cagrad": CAGrad,
    "imtl_g": IMTLG,
    "nashmtl": NashMTL,
    "stl": STL,
    "constant": Constant,
}

__all__ = [
    "DWA",
    "FAMO",
    "IMTLG",
    "LS",
    "METHODS",
    "MGDA",
    "RLW",
    "SI",
    "STL",
    "UW",
    "CAGrad",
    "Constant",
    "GO4Align",
    "GradDrop",
    "NashMTL",
    "PCGrad",
]

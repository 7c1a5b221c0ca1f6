"""Every balancing method by name."""

from equipoise.core import Method

from .aligned_mtl import AlignedMTL
from .cagrad import CAGrad
from .coba import CoBa
from .config import ConFIG
from .config_m import MConFIG
from .constant import Constant
from .cosmos import COSMOS
from .db_mtl import DBMTL
from .dualproj import DualProj
from .dwa import DWA
from .excess_mtl import ExcessMTL
from .fairgrad import FairGrad
from .famo import FAMO
from .gls import GLS
from .go4align import GO4Align
from .graddrop import GradDrop
from .gradnorm import GradNorm
from .gradvac import GradVac
from .gradvac_layers import GradVacLayers
from .imtl import IMTL
from .imtl_g import IMTLG
from .imtl_l import IMTLL
from .krum import Krum
from .ldc_mtl import LDCMTL
from .lr_annealing import LRAnnealing
from .ls import LS
from .metabalance import MetaBalance
from .mgda import MGDA
from .moco import MoCo
from .modo import MoDo
from .nashmtl import NashMTL
from .pbi import PBI
from .pcgrad import PCGrad
from .relobralo import ReLoBRaLo
from .rlw import RLW
from .sdmgrad import SDMGrad
from .si import SI
from .softadapt import SoftAdapt
from .stch import STCH
from .stl import STL
from .tchebycheff import Tchebycheff
from .trimmed_mean import TrimmedMean
from .upgrad import UPGrad
from .uw import UW
from .uw_o import UWO
from .uw_so import UWSO

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
    "gls": GLS,
    "uw_so": UWSO,
    "uw_o": UWO,
    "imtl_l": IMTLL,
    "imtl": IMTL,
    "stch": STCH,
    "tchebycheff": Tchebycheff,
    "pbi": PBI,
    "cosmos": COSMOS,
    "softadapt": SoftAdapt,
    "relobralo": ReLoBRaLo,
    "ldc_mtl": LDCMTL,
    "coba": CoBa,
    "gradnorm": GradNorm,
    "gradvac": GradVac,
    "gradvac_layers": GradVacLayers,
    "aligned_mtl": AlignedMTL,
    "fairgrad": FairGrad,
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "config": ConFIG,
    "config_m": MConFIG,
    "db_mtl": DBMTL,
    "excess_mtl": ExcessMTL,
    "metabalance": MetaBalance,
    "lr_annealing": LRAnnealing,
    "moco": MoCo,
    "modo": MoDo,
    "sdmgrad": SDMGrad,
    "krum": Krum,
    "trimmed_mean": TrimmedMean,
    "stl": STL,
    "constant": Constant,
}

__all__ = [
    "COSMOS",
    "DBMTL",
    "DWA",
    "FAMO",
    "GLS",
    "IMTL",
    "IMTLG",
    "IMTLL",
    "LDCMTL",
    "LS",
    "METHODS",
    "MGDA",
    "PBI",
    "RLW",
    "SI",
    "STCH",
    "STL",
    "UW",
    "UWO",
    "UWSO",
    "AlignedMTL",
    "CAGrad",
    "CoBa",
    "ConFIG",
    "Constant",
    "DualProj",
    "ExcessMTL",
    "FairGrad",
    "GO4Align",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradVacLayers",
    "Krum",
    "LRAnnealing",
    "MConFIG",
    "MetaBalance",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "ReLoBRaLo",
    "SDMGrad",
    "SoftAdapt",
    "Tchebycheff",
    "TrimmedMean",
    "UPGrad",
]

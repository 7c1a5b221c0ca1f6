"""Seventeen measured properties of organic molecules, from the tables of the package chemicals 1.5.2.

The tables are keyed by CAS number and come from handbooks and public databases. What is read of which (table: column),
the first table that has a value wins, those of Yaws last:

| property | tables |
|---|---|
| melting_point | OpenNotebook, CRC organic, CRC inorganic, Common Chemistry, WebBook, Wikidata: Tm |
| boiling_point | CRC organic, CRC inorganic, Common Chemistry, WebBook, Wikidata, (Yaws): Tb |
| flash_point | IEC 60079-20-1, NFPA 497, Wikidata: T_flash |
| critical_temperature | IUPAC, Matthews, CRC critical, WebBook, PSRK, (Yaws): Tc |
| critical_pressure | the same: Pc, as a decimal logarithm |
| critical_volume | the same: Vc |
| acentric_factor | Passut and Danner, PSRK, (Yaws): omega |
| vaporisation_enthalpy | CRC, Ghazerati: Hvap298; WebBook: Hvap |
| sublimation_enthalpy | Ghazerati, WebBook: Hsub |
| gas_formation_enthalpy | ATcT, CRC, WebBook, (Yaws): Hfg |
| liquid_formation_enthalpy | ATcT, CRC, WebBook: Hfl |
| solid_formation_enthalpy | CRC, WebBook: Hfs |
| gas_entropy | CRC, WebBook, (Yaws): S0g |
| logp | Syrres, CRC, Wikidata: logP |
| refractive_index | CRC, Wikidata: RI |
| liquid_volume | Common Chemistry: Vml |
| solid_volume | Common Chemistry: Vms |

Part of what Yaws tabulates is estimated and none of it has a source, so its labels are marked. Left out, since they are
predictions or hold some: joback, fedors, wilson_jasperson, the acentric factors from predicted vapour pressures, psi4,
the DIPPR constants of Pina-Martinez and Serat, TRC (the package warns that some of its enthalpies were computed),
Albahri, JANAF (tables calculated from spectra) and the equation-of-state constants of REFPROP. PSRK is a compilation
whose acentric factors are said to hold a few estimates.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_ORGANIC = "Misc/Physical Constants of Organic Compounds.csv"
_INORGANIC = "Misc/Physical Constants of Inorganic Compounds.csv"
_COMMON = "Misc/common_chemistry_data.tsv"
_WEBBOOK = "Misc/webbook_constants.tsv"
_WIKIDATA = "Misc/wikidata_properties.tsv"
_IEC, _NFPA = "Safety/IS IEC 60079-20-1 2010.tsv", "Safety/NFPA 497 2008.tsv"
_STANDARD = "Heat Capacity/CRC Standard Thermodynamic Properties of Chemical Substances.tsv"
_YAWS_CRITICAL = "Critical Properties/Yaws Collection.tsv"
_YAWS_BOILING = "Phase Change/Yaws Boiling Points.tsv"
_YAWS_GAS = "Reactions/Yaws Hf S0 (g).tsv"
_PSRK = "Critical Properties/Appendix to PSRK Revision 4.tsv"
_CRITICAL = (
    "Critical Properties/IUPACOrganicCriticalProps.tsv",
    "Critical Properties/Mathews1972InorganicCriticalProps.tsv",
    "Critical Properties/CRCCriticalOrganics.tsv",
    _WEBBOOK,
    _PSRK,
    _YAWS_CRITICAL,
)
IDENTIFIERS = (
    "Identifiers/chemical identifiers pubchem large.tsv",
    "Identifiers/chemical identifiers pubchem small.tsv",
)
_CAS, _FORMULA, _SMILES, _KEY = 1, 2, 4, 6  # columns of the tables of identifiers, which have no header


@dataclass(frozen=True)
class Property:
    """One measured property.

    Args:
        name: of the task.
        unit: that it is reported in.
        sources: (table, column) in the order of preference.
        factor: from the unit of the tables to that of the report.
        log: whether its decimal logarithm is what is learnt and reported.
    """

    name: str
    unit: str
    sources: tuple[tuple[str, str], ...]
    factor: float = 1.0
    log: bool = False


def _all(column: str, *tables: str) -> tuple[tuple[str, str], ...]:
    return tuple((table, column) for table in tables)


PROPERTIES: tuple[Property, ...] = (
    Property(
        "melting_point",
        "K",
        _all(
            "Tm",
            "Phase Change/OpenNotebook Melting Points.tsv", _ORGANIC, _INORGANIC, _COMMON, _WEBBOOK, _WIKIDATA,
        ),
    ),
    Property("boiling_point", "K", _all("Tb", _ORGANIC, _INORGANIC, _COMMON, _WEBBOOK, _WIKIDATA, _YAWS_BOILING)),
    Property("flash_point", "K", _all("T_flash", _IEC, _NFPA, _WIKIDATA)),
    Property("critical_temperature", "K", _all("Tc", *_CRITICAL)),
    Property("critical_pressure", "log10 Pa", _all("Pc", *_CRITICAL), log=True),
    Property("critical_volume", "cm^3/mol", _all("Vc", *_CRITICAL), factor=1e6),
    Property(
        "acentric_factor", "", _all("omega", "Critical Properties/PassutDanner1973.tsv", _PSRK, _YAWS_CRITICAL)
    ),
    Property(
        "vaporisation_enthalpy",
        "kJ/mol",
        (
            ("Phase Change/CRC Handbook Heat of Vaporization.tsv", "Hvap298"),
            ("Phase Change/Ghazerati Appendix Vaporization Enthalpy.tsv", "Hvap298"),
            (_WEBBOOK, "Hvap"),
        ),
        factor=1e-3,
    ),
    Property(
        "sublimation_enthalpy",
        "kJ/mol",
        _all("Hsub", "Phase Change/Ghazerati Appendix Sublimation Enthalpy.tsv", _WEBBOOK),
        factor=1e-3,
    ),
    Property(
        "gas_formation_enthalpy",
        "kJ/mol",
        _all("Hfg", "Reactions/ATcT 1.112 (g).tsv", _STANDARD, _WEBBOOK, _YAWS_GAS),
        factor=1e-3,
    ),
    Property(
        "liquid_formation_enthalpy",
        "kJ/mol",
        _all("Hfl", "Reactions/ATcT 1.112 (l).tsv", _STANDARD, _WEBBOOK),
        factor=1e-3,
    ),
    Property("solid_formation_enthalpy", "kJ/mol", _all("Hfs", _STANDARD, _WEBBOOK), factor=1e-3),
    Property("gas_entropy", "J/(mol K)", _all("S0g", _STANDARD, _WEBBOOK, _YAWS_GAS)),
    Property(
        "logp",
        "",
        _all("logP", "Environment/Syrres logP data.csv.gz", "Environment/CRC logP table.tsv", _WIKIDATA),
    ),
    Property("refractive_index", "", _all("RI", "Misc/CRC Handbook Organic RI.csv", _WIKIDATA)),
    Property("liquid_volume", "cm^3/mol", _all("Vml", _COMMON), factor=1e6),
    Property("solid_volume", "cm^3/mol", _all("Vms", _COMMON), factor=1e6),
)  # fmt: skip
TABLES: tuple[str, ...] = tuple(dict.fromkeys(table for p in PROPERTIES for table, _ in p.sources))


@dataclass(frozen=True)
class Labels:
    """M molecules with what is known of them.

    Args:
        smiles: of each.
        keys: InChIKey of each, in alphabetical order.
        values: (M, 17) float64 in the units of `PROPERTIES`, NaN where there is none.
        yaws: (M, 17) bool: the label is from a table of Yaws.
    """

    smiles: list[str]
    keys: list[str]
    values: Tensor
    yaws: Tensor


class _Molecule(NamedTuple):
    smiles: str
    key: str
    place: int


def read_labels(folder: Path) -> Labels:
    """Read the tables.

    A molecule is kept if its formula has carbon, its SMILES is one piece, and at least one property is known.
    Several CAS numbers with one InChIKey are one molecule; per table, the first of them in the order of the
    identifiers that has a value gives it.

    Args:
        folder: of the package, with the tables below.

    Raises:
        ValueError: if a table lacks a column, or a value is not a number.
    """
    molecules = _molecules([folder / name for name in IDENTIFIERS])
    known: dict[str, list[float]] = {}
    yaws: set[tuple[str, int]] = set()
    tables = {table for item in PROPERTIES for table, _ in item.sources}
    opened = {table: _read_table(folder / table, _columns_of(table)) for table in sorted(tables)}
    asked = [(place, item, source) for place, item in enumerate(PROPERTIES) for source in item.sources]
    for place, item, (table, column) in asked:
        for key, value in _values(molecules, opened[table][column], item):
            row = known.setdefault(key, [math.nan] * len(PROPERTIES))
            if math.isnan(row[place]):
                row[place] = value
                yaws |= {(key, place)} if "Yaws" in table else set()
    return _labels(molecules, known, yaws)


def _labels(
    molecules: Mapping[str, _Molecule], known: Mapping[str, list[float]], yaws: set[tuple[str, int]]
) -> Labels:
    smiles = {found.key: found.smiles for found in reversed([*molecules.values()])}  # of the first CAS number
    keys = sorted(known)
    return Labels(
        [smiles[key] for key in keys],
        keys,
        torch.tensor([known[key] for key in keys], dtype=torch.float64).reshape(-1, len(PROPERTIES)),
        torch.tensor([[(key, k) in yaws for k in range(len(PROPERTIES))] for key in keys]).reshape(
            -1, len(PROPERTIES)
        ),
    )


def _molecules(paths: Iterable[Path]) -> dict[str, _Molecule]:
    """CAS number -> organic molecules of one piece."""
    found: dict[str, _Molecule] = {}
    for line in _lines(paths):
        parts = line.split("\t", _KEY + 1)
        if re.search("C(?![a-z])", parts[_FORMULA]) and "." not in parts[_SMILES]:
            cas = parts[_CAS].replace("-", "")
            found.setdefault(cas, _Molecule(parts[_SMILES], parts[_KEY].strip(), len(found)))
    return found


def _lines(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield from file


def _values(
    molecules: Mapping[str, _Molecule], found: Mapping[str, float], item: Property
) -> Iterator[tuple[str, float]]:
    """InChIKey and value, in the order of the identifiers."""
    for _, cas in sorted((molecules[cas].place, cas) for cas in found.keys() & molecules.keys()):
        if not item.log or found[cas] > 0:
            yield molecules[cas].key, math.log10(found[cas]) if item.log else found[cas] * item.factor


def _columns_of(table: str) -> list[str]:
    return sorted({column for item in PROPERTIES for name, column in item.sources if name == table})


def _read_table(path: Path, columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """Column -> CAS number (digits) -> value; the first row of a number counts."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), delimiter="\t"))
    header = rows[0] if rows else []
    found: dict[str, dict[str, float]] = {}
    for column in columns:
        if column not in header:
            raise ValueError(
                f"`{path}` should have the column {column}. Found {', '.join(header) or 'none'}."
            )
        place, values = header.index(column), found.setdefault(column, {})
        for row in rows[1:]:
            if len(row) > place and (text := row[place].strip()):
                values.setdefault(row[0].strip().replace("-", ""), _number(text, path))
    return found


def _number(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"Every value of `{path}` should be a number. Found {text!r}.")
    return value

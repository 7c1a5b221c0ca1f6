"""The tables that are read of the package chemicals 1.5.2, with their checksums."""

from __future__ import annotations

from equipoise.data.packages import DataPackage

_DIGESTS = {
    "Identifiers/chemical identifiers pubchem large.tsv": (
        "3b9aac5ae8d270bafc9e72a6af5441ce580f0ce444d1dee48dc37e47474b91fc"
    ),
    "Identifiers/chemical identifiers pubchem small.tsv": (
        "21fc5441ba4e159ec3b3993459d7cd0c6d375a1565c7304cc55580e8999ba42e"
    ),
    "Phase Change/OpenNotebook Melting Points.tsv": (
        "a41cec098dce1dd603652342d4a9f0171b2f67625ebe80a1d3ab4b02a52f0bed"
    ),
    "Misc/Physical Constants of Organic Compounds.csv": (
        "375cc9b2db48877ac5b8fb60c3713ef05adbbe927957c45094362d806ecfe383"
    ),
    "Misc/Physical Constants of Inorganic Compounds.csv": (
        "121483869a54d517dea142893c0ef361d962014fa178de0b2fd070d04389c953"
    ),
    "Misc/common_chemistry_data.tsv": ("f3aafb2bcbde9b2be35c94aeb8e581db6d2eea5b2c54a7f8c9c873ac9362b67e"),
    "Misc/webbook_constants.tsv": ("8d0b7c7b62a2bc8ff4c91448975775924cf1f844f4ab67ece29da19f60838262"),
    "Misc/wikidata_properties.tsv": ("1c8cc7f549f150483527b76ab85daee121751dfaac5ebd3083971b045d8bd6db"),
    "Phase Change/Yaws Boiling Points.tsv": (
        "b5066ceb80001f0f2b8c2c89b9463a7489c90cb16962ba4775d3b7ebcb4c470f"
    ),
    "Safety/IS IEC 60079-20-1 2010.tsv": ("397a6609ffad46bcbc4a6473290a8ada7a047ee8046ce087eda33a76670306d7"),
    "Safety/NFPA 497 2008.tsv": ("569fca369523c036bf7f5b86ff31e510897786fa84e068a4c92add9995c5a472"),
    "Critical Properties/IUPACOrganicCriticalProps.tsv": (
        "94aa74b87def173c0a39b823100512cca6709830f5cfbecbbe8ae3c80f09295d"
    ),
    "Critical Properties/Mathews1972InorganicCriticalProps.tsv": (
        "3f02b75eed7350267abca7974f1571b9724a4366f02d9ca32c3c8e941697b1f8"
    ),
    "Critical Properties/CRCCriticalOrganics.tsv": (
        "ef533e3d7b14fe3b2a9d7a11887bce6912b2fb0c40001ecdbcbadf0b1c8d67a7"
    ),
    "Critical Properties/Appendix to PSRK Revision 4.tsv": (
        "8193e7c2279326784e0acb9454d79173961f1d69c09ee5291f7742e774058db7"
    ),
    "Critical Properties/Yaws Collection.tsv": (
        "8e9cce88b781b13a380c4d21ff86c4fd57d63592ffe3c40a88721fee2614bb64"
    ),
    "Critical Properties/PassutDanner1973.tsv": (
        "1b14440e300855dac834c0d8af0955ca6d5b861b4251ed96a77b7048b258a62f"
    ),
    "Phase Change/CRC Handbook Heat of Vaporization.tsv": (
        "3167c400fc9581f2e3c82a6581c8b7959e53d6565945042c0dc9c2c54592cf69"
    ),
    "Phase Change/Ghazerati Appendix Vaporization Enthalpy.tsv": (
        "14911df3baa533a0b5d4c6972040d49a22d4cf3b0d670a30bc4aa0ef86f75c5a"
    ),
    "Phase Change/Ghazerati Appendix Sublimation Enthalpy.tsv": (
        "b08175570be23e11ea1b9de58a6080486b6907ad2e9cd9b67bec0c1ffc5291bd"
    ),
    "Reactions/ATcT 1.112 (g).tsv": ("b7d4dd125ed49a2978d918f1cf3ba718f5f51be957f48c1ded51042867cfdc90"),
    "Heat Capacity/CRC Standard Thermodynamic Properties of Chemical Substances.tsv": (
        "718d121e0c6ee3cbc2b8a0029dcde7feba72cd3fa18dc4f08f22cf79f1028df2"
    ),
    "Reactions/Yaws Hf S0 (g).tsv": ("712cf834fc9676eacb00c7079510369ecbbf9cd39258b1fade0014ba3b89b2d7"),
    "Reactions/ATcT 1.112 (l).tsv": ("72f43aabe3494b729361afe07eba914477ff63781b1f5e1b5486c39dd550b69a"),
    "Environment/Syrres logP data.csv.gz": (
        "8d087f293b5b0dcd930ecd025ba220499657957b7c26abf64f663f617b0b4d09"
    ),
    "Environment/CRC logP table.tsv": ("09f43aae1cae4b299794da500eced4bc97d470ff8a6b9c9d9692316098872e7c"),
    "Misc/CRC Handbook Organic RI.csv": ("46d64fbe1dd5077bb127bfc0935a21970bab7d3a66adf4653cf34f5086526546"),
}
PACKAGE = DataPackage(
    "chemicals",
    "1.5.2",
    {f"chemicals/{table}": digest for table, digest in _DIGESTS.items()},
    licence="MIT; each table has its own source, named by the package's documentation",
)

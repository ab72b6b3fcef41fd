"""Makers as people call them, by the three letters that their meters send (assigned by the DLMS UA)."""

from typing import Final

MAKERS: Final = {
    "ABB": "ABB",
    "ACW": "Itron",
    "AMT": "Aquametro",
    "BMT": "BMeters",
    "DME": "Diehl",
    "DZG": "DZG",
    "EFE": "Engelmann",
    "ELS": "Elster",
    "ELV": "Elvaco",
    "EMH": "EMH",
    "EMU": "EMU",
    "ESY": "EasyMeter",
    "FIN": "Finder",
    "FML": "Siemens",
    "GAV": "Carlo Gavazzi",
    "GMC": "Gossen Metrawatt",
    "GWF": "GWF",
    "HAG": "Hager",
    "HYD": "Hydrometer",
    "INV": "Sensus",
    "ISK": "Iskraemeco",
    "ITU": "Itron",
    "JAN": "Janitza",
    "KAM": "Kamstrup",
    "LGB": "Landis+Gyr",
    "LGZ": "Landis+Gyr",
    "LSE": "Landis & Staefa",
    "LUG": "Landis+Gyr",
    "MAD": "Maddalena",
    "MET": "Metra",
    "NZR": "NZR",
    "QDS": "Qundis",
    "RAM": "Rossweiner",
    "REL": "Relay",
    "RKE": "Viterra",
    "SBC": "Saia Burgess",
    "SEN": "Sensus",
    "SIE": "Siemens",
    "SLB": "Allmess",
    "SON": "Sontex",
    "SPX": "Sensus",
    "SVM": "SVM",
    "TCH": "Techem",
    "TEC": "Tecson",
    "WEP": "Weptech",
    "ZAG": "ZAG",
    "ZRI": "Zenner",
    "ZRM": "Zenner",
}
"""PAD is none of them: Eastron's meters send it, too."""


def maker(letters: str) -> str:
    """The name, or the letters where it is not known; "" where the meter sends none."""
    return MAKERS.get(letters, letters)

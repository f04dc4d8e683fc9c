"""ISO 4217 codes, and what an amount is worth in the currency that the profiles are kept in.

The rates are static on purpose: a profile must be the same whenever it is folded.  They need only be roughly right (they
make amounts of different currencies comparable, nobody is paid by them) and are a setting (`FRAUD_RATES__XXX`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

MINOR_DIGITS: Mapping[str, int] = MappingProxyType(
    dict.fromkeys(
        (
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ),
        0,
    )
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
)
"""Digits of the minor unit where they are not two (ISO 4217, table A.1)."""

UNITS_PER_EURO: Mapping[str, str] = MappingProxyType(
    {
        "EUR": "1", "AED": "4.25", "ALL": "98", "ARS": "1600", "AUD": "1.77", "BAM": "1.95583", "BDT": "141",
        "BGN": "1.95583", "BHD": "0.436", "BRL": "6.2", "CAD": "1.62", "CHF": "0.93", "CLP": "1080", "CNY": "8.2",
        "COP": "4400", "CZK": "24.3", "DKK": "7.46", "DZD": "151", "EGP": "55", "GBP": "0.88", "GEL": "3.13",
        "HKD": "9.0", "HUF": "385", "IDR": "19300", "ILS": "3.8", "INR": "103", "ISK": "147", "JOD": "0.82",
        "JPY": "180", "KES": "150", "KRW": "1690", "KWD": "0.355", "KZT": "605", "LKR": "354", "MAD": "10.7",
        "MKD": "61.6", "MXN": "21.3", "MYR": "4.8", "NGN": "1680", "NOK": "11.7", "NZD": "2.05", "OMR": "0.445",
        "PEN": "3.9", "PHP": "68", "PKR": "327", "PLN": "4.24", "QAR": "4.2", "RON": "5.09", "RSD": "117.2",
        "RUB": "93", "SAR": "4.34", "SEK": "11.0", "SGD": "1.5", "THB": "37.5", "TND": "3.4", "TRY": "49",
        "TWD": "36", "UAH": "48.8", "USD": "1.16", "UYU": "46", "VND": "30500", "XAF": "655.957", "XOF": "655.957",
        "ZAR": "20",
    }
)  # fmt: skip
"""Units of each currency for one euro, roughly, as of late 2025."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Turns amounts of any known currency into minor units of one, in integers, the same on every machine."""

    currency: str
    """What profiles are kept in."""
    factors: Mapping[str, tuple[int, int]]
    """Minor units of `currency` for one minor unit of each, as numerator and denominator."""

    @classmethod
    def of(cls, currency: str = "EUR", units_per_euro: Mapping[str, str] = UNITS_PER_EURO) -> Rates:
        """Raises KeyError where `currency` has no rate, ValueError where a rate is no positive number."""
        rates = {code: Fraction(rate) for code, rate in units_per_euro.items()}
        if bad := [code for code, rate in rates.items() if rate <= 0]:
            raise ValueError(f"rates must be positive: {', '.join(bad)}")
        home = rates[currency] * 10 ** MINOR_DIGITS.get(currency, 2)
        factors = {code: home / (rate * 10 ** MINOR_DIGITS.get(code, 2)) for code, rate in rates.items()}
        return cls(currency=currency, factors={code: (f.numerator, f.denominator) for code, f in factors.items()})

    def convert(self, amount: int, currency: str) -> int:
        """Rounded half up.

        >>> Rates.of("EUR", {"EUR": "1", "JPY": "160", "USD": "1.25"}).convert(160, "JPY")
        100
        """
        if currency == self.currency:
            return amount
        numerator, denominator = self.factors[currency]
        return (2 * amount * numerator + denominator) // (2 * denominator)


DEFAULT_RATES = Rates.of()

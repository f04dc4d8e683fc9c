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

_NUMBERS = (
    "AED=784 AFN=971 ALL=008 AMD=051 AOA=973 ARS=032 AUD=036 AWG=533 AZN=944 BAM=977 BBD=052 BDT=050 BGN=975 BHD=048 "
    "BIF=108 BMD=060 BND=096 BOB=068 BOV=984 BRL=986 BSD=044 BTN=064 BWP=072 BYN=933 BZD=084 CAD=124 CDF=976 CHE=947 "
    "CHF=756 CHW=948 CLF=990 CLP=152 CNY=156 COP=170 COU=970 CRC=188 CUP=192 CVE=132 CZK=203 DJF=262 DKK=208 DOP=214 "
    "DZD=012 EGP=818 ERN=232 ETB=230 EUR=978 FJD=242 FKP=238 GBP=826 GEL=981 GHS=936 GIP=292 GMD=270 GNF=324 GTQ=320 "
    "GYD=328 HKD=344 HNL=340 HRK=191 HTG=332 HUF=348 IDR=360 ILS=376 INR=356 IQD=368 IRR=364 ISK=352 JMD=388 JOD=400 "
    "JPY=392 KES=404 KGS=417 KHR=116 KMF=174 KPW=408 KRW=410 KWD=414 KYD=136 KZT=398 LAK=418 LBP=422 LKR=144 LRD=430 "
    "LSL=426 LYD=434 MAD=504 MDL=498 MGA=969 MKD=807 MMK=104 MNT=496 MOP=446 MRU=929 MUR=480 MVR=462 MWK=454 MXN=484 "
    "MXV=979 MYR=458 MZN=943 NAD=516 NGN=566 NIO=558 NOK=578 NPR=524 NZD=554 OMR=512 PAB=590 PEN=604 PGK=598 PHP=608 "
    "PKR=586 PLN=985 PYG=600 QAR=634 RON=946 RSD=941 RUB=643 RWF=646 SAR=682 SBD=090 SCR=690 SDG=938 SEK=752 SGD=702 "
    "SHP=654 SLE=925 SOS=706 SRD=968 SSP=728 STN=930 SVC=222 SYP=760 SZL=748 THB=764 TJS=972 TMT=934 TND=788 TOP=776 "
    "TRY=949 TTD=780 TWD=901 TZS=834 UAH=980 UGX=800 USD=840 USN=997 UYI=940 UYU=858 UYW=927 UZS=860 VED=926 VES=928 "
    "VND=704 VUV=548 WST=882 XAD=396 XAF=950 XAG=961 XAU=959 XBA=955 XBB=956 XBC=957 XBD=958 XCD=951 XCG=532 XDR=960 "
    "XOF=952 XPD=964 XPF=953 XPT=962 XSU=994 XUA=965 YER=886 ZAR=710 ZMW=967 ZWG=924"
)
NUMBERS: Mapping[str, str] = MappingProxyType({pair[:3]: pair[4:] for pair in _NUMBERS.split()})
"""The number of each code (ISO 4217), three digits, as card networks write currencies."""

_DOLLARS = "USD CAD AUD NZD SGD HKD TWD MXN ARS CLP COP UYU BRL"
_CROWNS = "SEK NOK DKK ISK CZK"
SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "€": "EUR", "£": "GBP", "₹": "INR", "₺": "TRY", "₽": "RUB", "₩": "KRW", "₪": "ILS", "₫": "VND", "₦": "NGN",
        "₱": "PHP", "฿": "THB", "₴": "UAH", "₸": "KZT", "₡": "CRC", "₲": "PYG", "₵": "GHS", "₾": "GEL", "₼": "AZN",
        "ZŁ": "PLN", "KČ": "CZK", "TL": "TRY", "FT": "HUF", "RM": "MYR", "LEI": "RON MDL", "FR": "CHF XAF XOF XPF",
        "RS": "INR PKR LKR", "KR": _CROWNS, "¥": "JPY CNY", "$": _DOLLARS, "US$": "USD", "USD$": "USD", "C$": "CAD",
        "CA$": "CAD", "CAD$": "CAD", "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD", "NT$": "TWD",
        "MX$": "MXN", "R$": "BRL", "EURO": "EUR", "EUROS": "EUR", "US DOLLAR": "USD", "US DOLLARS": "USD",
        "POUND STERLING": "GBP", "POUNDS STERLING": "GBP", "STERLING": "GBP", "SWISS FRANC": "CHF",
        "SWISS FRANCS": "CHF", "YEN": "JPY", "JAPANESE YEN": "JPY", "YUAN": "CNY", "RENMINBI": "CNY", "RMB": "CNY",
        "INDIAN RUPEE": "INR", "INDIAN RUPEES": "INR", "CANADIAN DOLLAR": "CAD", "CANADIAN DOLLARS": "CAD",
        "AUSTRALIAN DOLLAR": "AUD", "AUSTRALIAN DOLLARS": "AUD", "ZLOTY": "PLN", "ZŁOTY": "PLN", "FORINT": "HUF",
    }
)  # fmt: skip
"""Signs and names, in capital letters, with the currencies that they may mean."""

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


def money(minor: float, currency: str) -> str:
    """Minor units of a currency, for people.

    >>> money(123_456.7, "EUR"), money(1_200, "JPY")
    ('1,234.57 EUR', '1,200 JPY')
    """
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{minor / 10**digits:,.{digits}f} {currency}"


DEFAULT_RATES = Rates.of()

"""What columns are called: the words of a name, and which field they speak for or against."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
_WITHIN: Final = 5
"""A word so long is also found inside another one: `customerid`, `oldbalance`."""
_NOT_WITHIN: Final = frozenset({"count", "conta", "canal", "karta"})  # of account, contact, canalised, Jakarta


def words_of(name: str) -> tuple[str, ...]:
    """
    >>> words_of("TX_FRAUD_SCENARIO"), words_of("nameOrig"), words_of("Is Fraud?")
    (('tx', 'fraud', 'scenario'), ('name', 'orig'), ('is', 'fraud'))
    """
    return tuple(word.lower() for word in _WORD.findall(name))


def said(words: Iterable[str], about: frozenset[str]) -> str | None:
    """The first of `words` that is one of these, or has a long one in it."""
    for word in words:
        if word in about or any(len(each) >= _WITHIN and each in word for each in about - _NOT_WITHIN):
            return word
    return None


@dataclass(frozen=True, kw_only=True)
class Words:
    """Which words in a column's name speak for a field."""

    surely: frozenset[str] = frozenset()
    perhaps: frozenset[str] = frozenset()
    against: frozenset[str] = frozenset()

    def score(self, words: tuple[str, ...]) -> tuple[float, str]:
        """From 0 for nothing said to 4, and the word that spoke; the fewer other words, the more."""
        if said(words, self.against):
            return 0.0, ""
        for worth, about in ((3.0, self.surely), (1.5, self.perhaps)):
            if word := said(words, about):
                return worth + 1 / len(words), word
        return 0.0, ""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_ID: Final = _set(
    "type category cat age zip city state lat latitude lon long longitude country risk score balance bal days day count "
    "amount amt dob birth gender sex job brand limit network street address email phone device ip currency time date hour "
    "first last age flag fraud isfraud since rate ratio avg mean mcc"
)

FIELDS: Final[dict[str, Words]] = {
    "transaction_id": Words(
        surely=_set("transactionid transid txid txnid trxid paymentid orderid tid buchungsnummer 交易号"),
        perhaps=_set("transaction trans tx txn trx payment order event operation record buchung transactie transazione "
            "operazione transacción transaccion transação transacao transakcji id uuid guid reference ref"),
        against=_NO_ID | _set("customer account client card merchant terminal user counterparty"),
    ),
    "account_id": Words(
        surely=_set(
            "account acct customer cust client cardholder cc card pan user payer sender orig originator from debtor "
            "accountid customerid userid wallet member holder konto kunde karte compte cuenta tarjeta conto conta cartão cartao "
            "rekening rachunek karta cliente klant klient счёт счет карта клиент 账户 账号 卡号 客户"
        ),
        perhaps=_set("source iban nameorig"),
        against=_NO_ID | _set("to dest destination recipient receiver beneficiary payee creditor counterparty merchant"),
    ),
    "counterparty_id": Words(
        surely=_set(
            "merchant merch terminal dest destination recipient receiver beneficiary payee creditor counterparty shop store "
            "seller vendor retailer to händler haendler empfänger empfaenger marchand "
            "commerçant commercant comercio comerciante esercente negozio estabelecimento lojista winkel handelaar sprzedawca "
            "магазин продавец получатель 商户 商家 收款人"
        ),
        perhaps=_set("company target namedest partner"),
        against=_NO_ID - {"state"},
    ),
    "amount": Words(
        surely=_set("amount amt betrag montant importe bedrag valor summe importo kwota сумма 金额"),
        perhaps=_set(
            "value price total sum paid eur euro euros usd dollars gbp cents charge spend debit withdrawal soll lastschrift"
        ),
        against=_set(
            "balance bal old new avg mean median max min count limit fee tax tip fraud chargeback currency type rate ratio "
            "label log norm scaled std id cumulative"
        ),
    ),
    "currency": Words(surely=_set("currency ccy curr währung waehrung devise moneda valuta moeda waluta валюта 币种 货币")),
    "occurred_at": Words(
        surely=_set("timestamp datetime occurred when zeitpunkt"),
        perhaps=_set("time date created dt ts zeit datum fecha heure uhrzeit data orario czas дата время "
            "时间 日期 posted unix epoch"),
        against=_set(
            "birth dob chargeback label fraud known reported report expiry expires expiration exp open opened registered "
            "signup join joined settled settlement updated since zone offset delta last previous prev resolved valid due "
            "dispute disputed claim closed confirmed detected"
        ),
    ),
    "steps": Words(
        surely=_set("step steps"),
        perhaps=_set("time timestamp ts dt seconds secs sec hour hours minute minutes days epoch unix elapsed datetime"),
        against=_set(
            "since last previous prev delta diff offset zone age count avg mean birth dob label fraud chargeback risk night "
            "amount amt"
        ),
    ),
    "utc_offset": Words(surely=_set("utcoffset tzoffset"), perhaps=_set("offset")),
    "channel": Words(
        surely=_set("channel kanal canal canale kanaal kanał канал 渠道"),
        perhaps=_set("type method mode use entry"),
        against=_set("card customer account device fraud merchant product currency user street"),
    ),
    "category": Words(
        surely=_set("category mcc kategorie categorie categoria"),
        perhaps=_set("sector segment"),
        against=_set("customer age fraud account"),
    ),
    "country": Words(
        surely=_set("country pays pais"), perhaps=_set("land nation"), against=_set("customer home birth risk issuing bank")
    ),
    "latitude": Words(surely=_set("latitude lat"), against=_set("home customer")),
    "longitude": Words(surely=_set("longitude lon lng long"), against=_set("home customer")),
    "device_id": Words(surely=_set("deviceid imei"), perhaps=_set("device"), against=_set("type os info model brand risk age")),
    "ip": Words(surely=_set("ip ipaddress ipaddr"), against=_set("country risk count score city region type")),
    "is_fraud": Words(
        surely=_set("fraud isfraud fraudulent betrug fraude frode oszustwo мошенничество 欺诈"),
        perhaps=_set("label class target chargeback illicit laundering scam y bad fraudster"),
        against=_set(
            "flagged scenario score predicted prediction pred prob probability type reason date time id count rate risk days "
            "amount amt known model source rule rules"
        ),
    ),
    "known_at": Words(
        surely=_set("chargeback reported known labelled labeled confirmed dispute disputed detected claim"),
        perhaps=_set("fraud label report"),
    ),
}  # fmt: skip
"""Of a mapping.  `steps` is `occurred_at` where it counts from a start."""

AN_ID: Final = _set("id ids no nr num number key uuid guid hash ref reference code token iban name")
DIRECTED: Final = _set(
    "from to orig dest origin destination sender receiver payer payee recipient beneficiary debtor creditor"
)
"""Words that say which side of a payment an account is on: they outweigh that it is one."""

AFTERWARDS: Final = _set(
    "fraud isfraud label chargeback flagged scenario predicted prediction pred verdict outcome decision dispute disputed "
    "investigation resolved resolution confirmed recovered refunded blocked newbalance after"
)
"""What such a column says was often known only after the transaction, or is somebody's answer already."""

YES: Final = _set(
    "1 true yes y t fraud fraudulent fraudster bad illicit positive scam ja oui si sí sì sim tak да 是 suspicious chargeback"
)

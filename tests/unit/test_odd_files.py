"""Files whose lines or letters are odd are refused with the line and with what would be right, and never half-read."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from loadgen.drafting.draft import draft
from schemas import lines
from schemas.errors import WrongSettings
from schemas.mapping import TableMapping, load_mapping, read_past

HEADER = "id,card,amount,when,is_fraud"
MAPPING = """
[transaction]
transaction_id = "id"
account_id = "card"
amount = "amount"
currency = { constant = "EUR" }
occurred_at = "when"
[label]
is_fraud = "is_fraud"
"""


def table(rows: int = 600, *, card: str = "a{}") -> list[str]:
    """Its lines, the header first."""
    return [HEADER] + [
        f"t{row},{card.format(row % 30)},{row % 90}.50,2024-{1 + row // 300:02}-{1 + row % 28:02} 10:00:00,{int(row % 15 == 0)}"
        for row in range(rows)
    ]


def written(folder: Path, lines_of_it: list[str], encoding: str = "utf-8") -> Path:
    file = folder / "t.csv"
    file.write_bytes(("\n".join(lines_of_it) + "\n").encode(encoding))
    return file


def mapping(folder: Path, more: str = "") -> TableMapping:
    file = folder / "own.toml"
    file.write_text(more + MAPPING, encoding="utf-8")
    return load_mapping(file)


def refused(file: Path, folder: Path) -> str:
    """The draft and whoever reads it by a mapping say the same."""
    with pytest.raises(WrongSettings) as by_draft:
        draft(file)
    with pytest.raises(WrongSettings) as by_mapping:
        read_past(file, mapping(folder))
    assert str(by_draft.value) == str(by_mapping.value)
    assert "polars" not in str(by_draft.value)
    assert "truncate_ragged_lines" not in str(by_draft.value)
    return str(by_draft.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "t300,a0,5.50,2024-01-31 10:00:00,0,extra",
            "line 302 has 6 fields, too many: the header has 5: 't300,a0,5.50",
        ),
        ("t300,a0,5,50,2024-01-31 10:00:00,0", "line 302 has 6 fields, too many: the header has 5: 't300,a0,5,50"),
        ("t300,a0,5.50,2024-01-31 10:00:00", "line 302 has 4 fields, too few: the header has 5"),
        ('t300,"a0,5.50,2024-01-31 10:00:00,0', "line 302 opens a quote that is never closed: 't300,\"a0"),
        ("t300,a0,5.50,2024-01-31 10:00:00,0\0", "line 302 has a NUL byte"),
    ],
)
@pytest.mark.parametrize("part", [1 << 23, 512])
def test_an_odd_line_is_named_with_its_number(
    line: str, says: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_PART", part)
    content = table()
    content[301] = line

    assert says in refused(written(tmp_path, content), tmp_path)


def test_of_many_odd_lines_the_first_is_named_and_all_are_counted(tmp_path: Path) -> None:
    content = [line + ("," if number else "") for number, line in enumerate(table())]
    said = refused(written(tmp_path, content), tmp_path)

    assert "line 2 has 6 fields, too many" in said
    assert "600 of 600 lines are so" in said


def test_a_quote_that_is_closed_lines_later_is_named_with_both(tmp_path: Path) -> None:
    content = table()
    content[301], content[310] = content[301].replace("a0", '"a0'), content[310].replace("a9", 'a9"')

    assert "line 302 opens a quote that is closed only on line 311" in refused(written(tmp_path, content), tmp_path)


def test_quoted_texts_may_have_separators_quotes_and_ends_of_lines_in_them(tmp_path: Path) -> None:
    content = table()
    content[100] = 't99,"a, ""b""\nc",5.50,2024-01-31 10:00:00,0'
    content[200] = ""
    content.append("(600 rows)")
    file = written(tmp_path, content)
    kept, _ = read_past(file, mapping(tmp_path), on_rejected=lambda _: None)

    assert kept.height == 599
    assert 'a, "b"\nc' in kept["account_id"].to_list()


def test_a_file_that_does_not_end_its_last_line_is_read_and_one_that_is_cut_is_not(tmp_path: Path) -> None:
    file = written(tmp_path, table())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert read_past(file, mapping(tmp_path))[0].height == 600
    file.write_bytes(whole[:-3])

    assert "line 601 has 4 fields, too few" in refused(file, tmp_path)
    assert "was the line cut off?" in refused(file, tmp_path)


@pytest.mark.parametrize("before", ["# payments of 2024", "sep=,", "Payments,January"])
def test_where_all_lines_are_odd_the_header_is_asked_about(before: str, tmp_path: Path) -> None:
    said = refused(written(tmp_path, [before, *table()]), tmp_path)

    assert "line 2 has 5 fields, too many" in said
    assert f"; is {before!r} the header? Lines before it must go" in said


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_an_empty_file_is_said_to_be_empty(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "payments.csv"
    file.write_bytes(content)

    for read in (draft, lambda of: read_past(of, mapping(tmp_path))):
        with pytest.raises(WrongSettings, match=r"payments\.csv can't be read: it is empty"):
            read(file)


def test_names_of_columns_without_a_row_are_no_table_to_draft_from(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"t\.csv has no rows"):
        draft(written(tmp_path, table()[:1]))


def test_an_encoding_of_one_byte_is_to_be_checked_by_what_it_makes_of_a_line(tmp_path: Path) -> None:
    content = [line.replace("a7,", "网络7,") for line in table()]
    file = tmp_path / "payments.csv"
    file.write_bytes("\n".join(content).encode("gb18030"))

    (encoding,) = [each for each in draft(file).guesses if each.key == "encoding"]

    assert not encoding.sure
    assert "line 9 is no UTF-8; by cp1252 it is 't7,ÍøÂç7" in encoding.why


def test_another_separator_is_asked_for(tmp_path: Path) -> None:
    content = [line.replace(",", ";").replace(".", ",") for line in table()]
    file = written(tmp_path, content)

    with pytest.raises(WrongSettings, match=r"is the separator ','\? `separator` in the mapping says which"):
        read_past(file, mapping(tmp_path))
    assert draft(file).complete


def test_a_file_that_was_changed_is_looked_at_again(tmp_path: Path) -> None:
    file = written(tmp_path, table())
    read_past(file, mapping(tmp_path))
    written(tmp_path, [*table(), "t600,a0,5.50"])

    assert "line 602" in refused(file, tmp_path)


def test_lines_that_end_as_on_old_macs_are_named(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("\r".join(table()).encode())

    assert "carriage return alone" in refused(file, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"])
@pytest.mark.parametrize("card", ["a{}", "карта-{}"])
def test_an_encoding_of_two_or_four_bytes_is_named_and_drafted(encoding: str, card: str, tmp_path: Path) -> None:
    file = written(tmp_path, table(card=card), encoding)

    with pytest.raises(WrongSettings, match=rf'written in {encoding}.*: say encoding = "{encoding}" in the mapping'):
        read_past(file, mapping(tmp_path))
    drafted = draft(file)
    assert {each.key: each.value for each in drafted.guesses}["encoding"] == f'"{encoding}"'
    assert drafted.trial is not None
    assert drafted.trial.transactions == 600
    kept, _ = read_past(file, mapping(tmp_path, f'encoding = "{encoding}"\n'))
    assert kept["account_id"][0] == card.format(0)


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path) -> None:
    for said, encoding in (("utf-8", "utf-8-sig"), ("utf-8-sig", "utf-8-sig"), ("utf-16-le", "utf-16")):
        file = written(tmp_path, table(), encoding)
        assert read_past(file, mapping(tmp_path, f'encoding = "{said}"\n'))[0].height == 600


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "cp1252"), ("latin-1", "latin-1")])
def test_letters_of_one_byte_are_named_with_their_line(encoding: str, name: str, tmp_path: Path) -> None:
    content = table()
    content[301] = content[301].replace("a0", "Müller" if encoding == "cp1252" else "M\x81ller")
    file = written(tmp_path, content, encoding)

    with pytest.raises(WrongSettings, match=rf'line 302 is not written in utf-8: encoding = "{name}" in the mapping'):
        read_past(file, mapping(tmp_path))
    assert {each.key: each.value for each in draft(file).guesses}["encoding"] == f'"{name}"'


def test_two_encodings_in_one_file_are_named(tmp_path: Path) -> None:
    content = "\n".join(table(card="Bäcker-{}")).encode().split(b"\n")
    content[301] = content[301].decode().encode("cp1252")
    file = tmp_path / "t.csv"
    file.write_bytes(b"\n".join(content) + b"\n")

    with pytest.raises(WrongSettings, match=r"line 302 is not written in utf-8 \(599 other lines are UTF-8"):
        read_past(file, mapping(tmp_path))
    (said,) = [each for each in draft(file).guesses if each.key == "encoding"]
    assert not said.sure
    assert "line 302 is no UTF-8, and 599 other lines are" in said.why


def test_what_is_packed_is_unpacked_or_named(tmp_path: Path) -> None:
    plain = written(tmp_path, table())
    packed = tmp_path / "packed.csv"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_past(packed, mapping(tmp_path))[0].height == 600
    assert draft(packed).complete

    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(plain.read_bytes())[:-20])
    assert "cut.csv.gz can't be read" in refused(tmp_path / "cut.csv.gz", tmp_path)

    inside = tmp_path / "zipped.csv"
    with zipfile.ZipFile(inside, "w") as archive:
        archive.write(plain)
    assert "it is a zip archive or an Excel workbook: unpack it" in refused(inside, tmp_path)
    with pytest.raises(WrongSettings, match="unpack it first, or save the sheet as CSV"):
        draft(inside.rename(tmp_path / "t.xlsx"))
    (tmp_path / "p.csv").write_bytes(b"PAR1....PAR1")
    assert "it is a Parquet file: name it .parquet" in refused(tmp_path / "p.csv", tmp_path)

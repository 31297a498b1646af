"""Small files in the raw layout of every public dataset."""

import gzip
import json

import polars as pl
import pytest

from storerec.data import read_amazon, read_dataset, read_mind, read_movielens, read_yelp
from storerec.errors import DataError, RowError, StorerecWarning


def as_lists(catalogue, histories):
    """Sequences as external ids."""
    ids = catalogue.ids.to_list()
    return {user: [ids[row] for row in histories.sequence(u)] for u, user in enumerate(histories.user_ids)}


def json_lines(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


RATINGS = [("7", "2", "5", "30"), ("3", "1", "4", "5"), ("7", "1", "1", "10")]
EXPECTED = {"7": ["1", "2"], "3": ["1"]}


def test_movielens_100k_files(tmp_path):
    def flags(*places):
        return ["1" if number in places else "0" for number in range(19)]

    rows = [
        ["1", "Toy Story (1995)", "01-Jan-1995", "", "http://x", *flags(3, 4, 5)],
        ["2", "Misérables, Les (1995)", "", "", "", *flags()],
    ]
    (tmp_path / "u.item").write_bytes("".join("|".join(row) + "\n" for row in rows).encode("latin-1"))
    (tmp_path / "u.data").write_text("".join("\t".join(row) + "\n" for row in RATINGS))
    catalogue, histories = read_dataset("movielens", tmp_path)
    assert catalogue.frame.rows() == [
        ("1", "Toy Story (1995)", "1995", "Animation, Children's, Comedy"),
        ("2", "Misérables, Les (1995)", "", ""),
    ]
    assert catalogue.attributes == ("title", "year", "genres")
    assert as_lists(catalogue, histories) == EXPECTED


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_dat_files(tmp_path, encoding):
    movies = "1::Toy Story (1995)::Animation|Comedy\n2::Misérables: The Film (1995)::Drama\n"
    (tmp_path / "movies.dat").write_bytes(movies.encode(encoding))
    (tmp_path / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATINGS))
    catalogue, histories = read_movielens(tmp_path)
    assert catalogue.frame.row(0) == ("1", "Toy Story (1995)", "Animation, Comedy")
    assert catalogue.titles[1] == "Misérables: The Film (1995)"
    assert as_lists(catalogue, histories) == EXPECTED
    (tmp_path / "ratings.dat").write_text("7::2::5::30\n7::1::5\n")
    with pytest.raises(RowError, match=r"ratings\.dat, line 2"):
        read_movielens(tmp_path)


def test_movielens_csv_files(tmp_path):
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n1,"American President, The",Comedy|Drama\n2,Heat,\n')
    ratings = "".join(",".join(row) + "\n" for row in RATINGS)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + ratings)
    catalogue, histories = read_movielens(tmp_path)
    assert catalogue.frame.rows() == [("1", "American President, The", "Comedy, Drama"), ("2", "Heat", "")]
    assert as_lists(catalogue, histories) == EXPECTED


def test_movielens_atomic_files(tmp_path):
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    (tmp_path / "ml.item").write_text(header + '1\tToy "Story"\t1995\tComedy Drama\n2\tHeat\t1995\t\n')
    ratings = "".join("\t".join(row) + "\n" for row in RATINGS)
    (tmp_path / "ml.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + ratings)
    catalogue, histories = read_movielens(tmp_path)
    assert catalogue.attributes == ("title", "year", "genres")
    assert catalogue.frame.row(0) == ("1", 'Toy "Story"', "1995", "Comedy Drama")
    assert as_lists(catalogue, histories) == EXPECTED
    (tmp_path / "ml.item").unlink()
    with pytest.raises(DataError, match="no MovieLens files"):
        read_movielens(tmp_path)


def write_mind(folder, behaviors):
    news = [
        ("N1", "news", "newsworld", '"Quoted" and 5" more', 'An "abstract', "http://x", "[]", "[]"),
        ("N2", "sports", "golf", '"Open quote', "", "http://x", "[]", "[]"),
        ("N3", "news", "newsus", "Third", "Text", "http://x", "[]", "[]"),
    ]
    (folder / "news.tsv").write_text("".join("\t".join(row) + "\n" for row in news), encoding="utf-8")
    (folder / "behaviors.tsv").write_text("".join("\t".join(row) + "\n" for row in behaviors))


def test_mind(tmp_path):
    time = "11/15/2019 8:55:22 AM"
    rows = [
        ("1", "U1", time, "", "N1-0 N2-1"),
        ("2", "U2", time, "N3 N1", "N2-1"),
        ("3", "U1", time, "N2 N2 N1", "N3-1"),
        ("4", "U2", time, "N3 N1", "N1-1"),
        ("5", "U3", time, "", "N1-1"),
    ]
    write_mind(tmp_path, rows)
    catalogue, histories = read_mind(tmp_path)
    assert catalogue.attributes == ("title", "abstract", "category", "subcategory")
    assert catalogue.frame.row(0) == ("N1", '"Quoted" and 5" more', 'An "abstract', "news", "newsworld")
    assert catalogue.titles[1] == '"Open quote'  # quotes are text, so N3 is not swallowed
    assert as_lists(catalogue, histories) == {"U2": ["N3", "N1"], "U1": ["N2", "N2", "N1"]}
    write_mind(tmp_path, [*rows, ("6", "U4", time, "N9 N1", "N1-1")])
    with pytest.warns(StorerecWarning, match=r"behaviors\.tsv: 1 of 7 events were left out.*'N9'"):
        read_mind(tmp_path)
    write_mind(tmp_path, rows[:1])
    with pytest.raises(DataError, match="no user has a history"):
        read_mind(tmp_path)
    write_mind(tmp_path, [*rows, ("6", "U4", time, "N1")])
    with pytest.raises(RowError, match=r"behaviors\.tsv, line 6: 4 fields where 5"):
        read_mind(tmp_path)


def business(number, **more):
    row = {
        "business_id": f"b{number}",
        "name": f"Name {number}",
        "address": "1 Road",
        "city": "Tampa",
        "state": "FL",
    }
    return row | {"attributes": {"WiFi": "no"}, "categories": None, "hours": None} | more


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_yelp(tmp_path, ending):
    json_lines(tmp_path / f"yelp_academic_dataset_business.{ending}", [business(1), business(2, address="")])
    names = ("user_id", "business_id", "stars", "text", "date")
    rows = [
        ("u", "b2", 1.0, "a\nb", "2018-07-07 22:09:11"),
        ("v", "b1", 5.0, "", "2018-07-07 22:09:11"),
        ("u", "b1", 5.0, "", "2012-01-03 15:28:18"),
    ]
    reviews = [dict(zip(names, row, strict=True)) for row in rows]
    review = tmp_path / f"yelp_academic_dataset_review.{ending}"
    json_lines(review, reviews)
    catalogue, histories = read_yelp(tmp_path)
    assert catalogue.attributes == ("name", "city", "address", "state")
    assert catalogue.frame.row(1) == ("b2", "Name 2", "Tampa", "", "FL")
    assert catalogue.title_attribute == "name"
    assert as_lists(catalogue, histories) == {"u": ["b1", "b2"], "v": ["b1"]}
    json_lines(review, [*reviews, reviews[0] | {"date": "yesterday"}])
    with pytest.raises(RowError, match=r"review.*line 4, field 'date'"):
        read_yelp(tmp_path)
    review.unlink()
    with pytest.raises(DataError, match=r"exactly one file \*review\*\.json\* is needed; found none"):
        read_yelp(tmp_path)


@pytest.mark.filterwarnings("ignore:1 of 2 items have no text")
def test_amazon_2014(tmp_path):
    reviews, metadata = tmp_path / "reviews_Books_5.json.gz", tmp_path / "meta_Books.json.gz"
    names = ("reviewerID", "asin", "unixReviewTime", "overall")
    rows = [("A1", "X2", 30, 5.0), ("A2", "X1", 5, 1.0), ("A1", "X1", 10, 3.0)]
    json_lines(reviews, [dict(zip(names, row, strict=True)) for row in rows])
    products = [
        {"asin": "X1", "title": "It's one", "categories": [["Books", "Art"], ["Books"]], "price": 1.5},
        {"asin": "X2", "brand": "B", "categories": [["Toys"]], "related": {"also": ["X1"]}},
    ]
    metadata.write_bytes(gzip.compress("".join(f"{row!r}\n" for row in products).encode()))
    catalogue, histories = read_amazon(reviews, metadata)
    assert catalogue.attributes == ("title", "brand", "categories")
    assert catalogue.frame.rows() == [("X1", "It's one", "", "Books, Art, Books"), ("X2", "", "B", "Toys")]
    assert as_lists(catalogue, histories) == {"A1": ["X1", "X2"], "A2": ["X1"]}
    assert read_amazon(reviews, metadata, text=("title", "price"))[0].attributes == ("title", "price")
    # Literals are parsed, not run: code is a bad row.
    evil = f"{products[0]!r}\n{{'asin': open('{tmp_path / 'made'}', 'w')}}\n"
    metadata.write_bytes(gzip.compress(evil.encode()))
    with pytest.raises(RowError, match="line 2: not valid Python"):
        read_amazon(reviews, metadata)
    assert not (tmp_path / "made").exists()


def test_amazon_2018_repeats_products(tmp_path):
    names = ("reviewerID", "asin", "unixReviewTime")
    json_lines(tmp_path / "Beauty.json", [dict(zip(names, ("A1", "X1", 5), strict=True))])
    products = [{"asin": "X1", "title": "One", "category": [], "description": ["Some", "text"]}]
    json_lines(tmp_path / "meta_Beauty.json", [*products, *products])
    with pytest.warns(StorerecWarning, match=r"1 rows repeat an item id.*'X1' in line 2"):
        catalogue, histories = read_dataset("amazon", tmp_path)
    assert catalogue.frame.rows() == [("X1", "One", "", "Some, text")]
    assert as_lists(catalogue, histories) == {"A1": ["X1"]}


@pytest.mark.parametrize("name", ["Beauty.jsonl", "Beauty.csv"])
def test_amazon_2023(tmp_path, name):
    names = ("user_id", "asin", "parent_asin", "timestamp")
    rows = [("A1", "X2-red", "X2", 1588687728923), ("A1", "X1", "X1", 1588687728922)]
    if name.endswith("csv"):
        pl.DataFrame(rows, schema=list(names), orient="row").drop("asin").write_csv(tmp_path / name)
    else:
        json_lines(tmp_path / name, [dict(zip(names, row, strict=True)) for row in rows])
    products = [{"parent_asin": f"X{n}", "title": "T", "store": None, "categories": ["a", "b"]} for n in (1, 2)]
    json_lines(tmp_path / "meta_Beauty.jsonl", products)
    catalogue, histories = read_dataset("amazon", tmp_path)
    assert catalogue.frame.row(0) == ("X1", "T", "", "a, b")
    assert as_lists(catalogue, histories) == {"A1": ["X1", "X2"]}


def test_amazon_faults(tmp_path):
    reviews, metadata = tmp_path / "r.json", tmp_path / "meta_r.json"
    with pytest.raises(DataError, match="no such file"):
        read_amazon(reviews, metadata)
    json_lines(metadata, [{"asin": "X1", "title": "T"}])
    json_lines(reviews, [{"user": "u"}])
    with pytest.raises(DataError, match="no column 'reviewerID'; found 'user'"):
        read_amazon(reviews, metadata)
    (tmp_path / "third.json").touch()
    with pytest.raises(DataError, match="exactly one file of reviews is needed"):
        read_dataset("amazon", tmp_path)


def test_names_and_folders(tmp_path):
    with pytest.raises(DataError, match="unknown dataset 'netflix'; known are movielens-100k"):
        read_dataset("netflix", tmp_path)
    with pytest.raises(DataError, match="give its path"):
        read_dataset("mind")
    with pytest.raises(DataError, match="no such folder"):
        read_dataset("yelp", tmp_path / "none")
